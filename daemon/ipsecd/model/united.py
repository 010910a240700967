"""Owns lists that are put together of others, for rules that name several of them alike.

A packet is looked up once in what is put together, and not once in each. An entry stays what it
was: it ranks by its own length, and what several lists have is there until the last gives it up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from ipsecd.model.addresses import JOINED, ListName
from ipsecd.model.lists import AddressList, Form, split
from ipsecd.model.packing import changed, united
from ipsecd.model.values import Endpoint, InForce


@dataclass(frozen=True)
class UnitedList(AddressList):
    """A list of all entries of its ``members``."""

    members: tuple[AddressList, ...] = ()


_united: WeakValueDictionary[tuple[int, ...], UnitedList] = WeakValueDictionary()
"""What was put together and is in use, by the identities of its members, which it keeps alive.

A change is prepared before it is made, by another thread and while others are made: it is found
here then, and is put together once.
"""
_latest: WeakValueDictionary[str, UnitedList] = WeakValueDictionary()
"""What was put together last, by the names of its members. What comes next differs in little."""


def list_of(name: str, lists: Mapping[str, AddressList]) -> AddressList | None:
    """What a name stands for that may be made of several; None if there is no such list.

    What the name stood for before is changed by what is different now, which costs less than to put
    all together anew.
    """
    if JOINED not in name:
        return lists.get(name)
    members = tuple(lists.get(part, _NO_ENTRIES) for part in name.split(JOINED))
    key = tuple(map(id, members))
    if (present := _united.get(key)) is None:
        present = _put_together(members, _latest.get(name))
        _united[key] = present
    _latest[name] = present
    return present


def joined(filters: Iterable[InForce]) -> list[InForce]:
    """The filters, where those of one rule that differ only in the list they name become one."""
    alike: dict[InForce, set[str]] = {}
    whole: list[InForce] = []
    for in_force in filters:
        source, destination = in_force.filter.source, in_force.filter.destination
        if isinstance(source.address, ListName) is isinstance(destination.address, ListName):
            whole.append(in_force)
        elif isinstance(source.address, ListName):
            pattern = replace(in_force.filter, source=_of_any(source))
            alike.setdefault(replace(in_force, filter=pattern), set()).add(source.address.name)
        else:
            assert isinstance(destination.address, ListName)
            pattern = replace(in_force.filter, destination=_of_any(destination))
            names = alike.setdefault(replace(in_force, filter=pattern), set())
            names.add(destination.address.name)
    return [*whole, *(_naming(in_force, names) for in_force, names in alike.items())]


_NO_ENTRIES = AddressList()
_ANY = ListName("any")


def _put_together(members: tuple[AddressList, ...], before: UnitedList | None) -> UnitedList:
    if before is None:
        return UnitedList(united(members).entries, members)
    pairs = zip(before.members, members, strict=True)
    changes = [old.change_to(new) for old, new in pairs if old is not new]
    gone = united(AddressList(change.removed) for change in changes)
    come = united(AddressList(change.added) for change in changes)
    new = changed(before, _in_none(gone, members), come)
    result = UnitedList(new.entries, members)
    result.take_digest_of(new)
    return result


def _in_none(addresses: AddressList, members: tuple[AddressList, ...]) -> AddressList:
    """Those entries that none of the members has."""
    layers = [member.layers for member in members]
    left: dict[Form, bytes] = {}
    for form, packed in addresses.entries.items():
        entries = split(packed, form.width)
        kept = [e for e in entries if not any(each.holds(form, e) for each in layers)]
        if kept:
            left[form] = b"".join(kept)
    return AddressList(left)


def _of_any(end: Endpoint) -> Endpoint:
    return replace(end, address=_ANY)


def _naming(in_force: InForce, names: set[str]) -> InForce:
    """A filter of any list, with those of these names put together in its place."""
    address = ListName(JOINED.join(sorted(names)))
    rule_filter = in_force.filter
    if isinstance(rule_filter.source.address, ListName):
        new = replace(rule_filter, source=replace(rule_filter.source, address=address))
    else:
        new = replace(rule_filter, destination=replace(rule_filter.destination, address=address))
    return replace(in_force, filter=new)
