"""Owns the lists of addresses that a workspace changes: entries that come, and such that go.

A list is asked for only when somebody has to know what is in it: entries that come need not know
that. Must not know what the lists are for, nor how they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ipsecd.errors import NotFound
from ipsecd.language.addresses import format_value, ipv4_value, ipv6_value
from ipsecd.model.addresses import Family, Network

Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class _Changed:
    """A list: what was asked for of it, and what it is to be.

    Before it is ``known``, ``entries`` has only those that are to come. ``before`` is None for a
    list that there was not.
    """

    known: bool = False
    before: frozenset[Network] | None = frozenset()
    entries: dict[Network, None] = field(default_factory=dict)
    has_ends: bool = False
    gone: bool = False


class AddressLists:
    """All lists that somebody looks at or changes; see the module."""

    def __init__(self, ask: Ask | None = None) -> None:
        """`ask` calls a method of the daemon; without it there are no lists."""
        self._ask = ask
        self._lists: dict[str, _Changed] = {}
        self._names: frozenset[str] | None = None

    def is_free(self, name: str) -> bool:
        """Whether no list has this name, or only one that is to be deleted."""
        if name in self._lists:
            return self._lists[name].gone
        if self._names is None:
            told = self._ask("ListLists", {})["lists"] if self._ask else []
            self._names = frozenset(each["name"] for each in told)
        return name not in self._names

    def entries(self, name: str) -> dict[Network, None]:
        """What a list holds; nothing, if there is none. Is not to be changed."""
        return self._known(name).entries

    def is_known(self, name: str) -> bool:
        """Whether somebody has asked what a list holds."""
        return name in self._lists and self._lists[name].known

    def has_ends(self, name: str) -> bool:
        """Whether entries of a list go by themselves."""
        return self._known(name).has_ends

    def add(self, name: str, network: Network) -> None:
        """Have an entry in a list, for good."""
        self._list(name).entries[network] = None

    def remove(self, name: str, network: Network) -> None:
        """Take an entry out that is in a list."""
        del self._known(name).entries[network]

    def create(self, name: str, entries: Iterable[Network]) -> None:
        """Make a list whose name is free."""
        if name in self._lists:
            self._known(name)
        else:
            self._lists[name] = _Changed(known=True, before=None)
        made = self._lists[name]
        made.entries, made.gone = dict.fromkeys(entries), False

    def delete(self, name: str) -> None:
        """Delete a list."""
        self._list(name).gone = True

    def differences(self, is_named: Callable[[str], bool]) -> list[dict[str, Any]]:
        """What differs from what there is, as the parameter ``lists`` of ``ChangeTogether``.

        A list that is to be deleted stays as it is while something else names it.
        """
        differences = []
        for name, each in sorted(self._lists.items()):
            before = each.before or frozenset()
            if each.gone:
                if each.before is None or is_named(name):
                    continue
                # What is known must still be so; what is not known does not matter.
                told = _difference(name, (), before if each.known else (), delete=True)
            else:
                removed = [network for network in before if network not in each.entries]
                added = [network for network in each.entries if network not in before]
                if not added and not removed and not (each.before is None and each.entries):
                    continue
                told = _difference(name, added, removed, create=each.before is None)
            differences.append(told)
        return differences

    def _list(self, name: str) -> _Changed:
        return self._lists.setdefault(name, _Changed())

    def _known(self, name: str) -> _Changed:
        each = self._list(name)
        if each.known:
            return each
        each.known = True
        told = self._told(name)
        if told is None:
            each.before = None
            return each
        there = dict.fromkeys(map(_network, told["entries"]))
        each.before, each.entries = frozenset(there), there | each.entries
        each.has_ends = bool(told["ending"])
        return each

    def _told(self, name: str) -> dict[str, Any] | None:
        """What the daemon says of a list; None if there is none."""
        if self._ask is None:
            return None
        try:
            return self._ask("GetList", {"name": name, "address": None, "counters": None})
        except NotFound:
            return None


def _difference(
    name: str,
    added: Iterable[Network],
    removed: Iterable[Network],
    *,
    create: bool = False,
    delete: bool = False,
) -> dict[str, Any]:
    texts = {"add": sorted(map(_text, added)), "remove": sorted(map(_text, removed))}
    return {"name": name, **texts, "create": create, "delete": delete}


def _text(network: Network) -> str:
    text = format_value(network.family, network.address)
    return text if network.length == network.family.bits else f"{text}/{network.length}"


def _network(text: str) -> Network:
    """An entry as the daemon tells it."""
    host, _, length = text.partition("/")
    value, family = ipv4_value(host), Family.IPV4
    if value is None:
        value, family = ipv6_value(host), Family.IPV6
    assert value is not None
    return Network(family, value, int(length) if length else family.bits)
