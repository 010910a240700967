"""Owns the document of shared filter lists and filter actions; must not know where it is stored.

A filter is written as in policies. Besides, an address may be a range, ``192.0.2.1-192.0.2.9``, or
this host's servers of a kind with the addresses they had, ``dns(192.0.2.53, 192.0.2.54)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.garbage import collection_paused
from ipsecd.language.addresses import format_address, format_value, parse_address
from ipsecd.language.documents import MAX_BYTES, scalar
from ipsecd.language.events import EventReader, Readers, raise_error
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import (
    AddressRange,
    FilterAction,
    FilterList,
    ServerKind,
    Servers,
    SharedAddress,
    SharedEndpoint,
    SharedFilter,
    SharedFilters,
)
from ipsecd.model.values import Endpoint, Filter
from ipsecd.quoting import quote

_Made = TypeVar("_Made")
_SERVERS = re.compile(r"(dns|wins|dhcp|gateway)\(([^()]*)\)", re.IGNORECASE)
_IPV4 = r"\d+\.\d+\.\d+\.\d+"
_IPV6 = r"\[[0-9A-Fa-f:.]+\]"
_RANGE = re.compile(rf"({_IPV4}|{_IPV6})\s*-\s*({_IPV4}|{_IPV6})")
_SPECIAL = re.compile(rf"{_SERVERS.pattern}|{_RANGE.pattern}", re.IGNORECASE)
_HEAD = "# Filter lists and filter actions, which the rules of several policies can share.\n"


def expanded(filter_list: FilterList) -> tuple[Filter, ...]:
    """The filters that a list stands for in rules, each once: a range is the fewest networks."""
    return tuple(dict.fromkeys(flt for each in filter_list.filters for flt in each.filters()))


def parse_shared_filter(text: str) -> SharedFilter:
    """The filter of a list that `text` names; raises ``InvalidInput``."""
    if not _SPECIAL.search(text):
        return _shared(parse_filter(text))
    left: list[SharedAddress] = []
    right: list[SharedAddress] = []

    def stand_in(match: re.Match[str]) -> str:
        before = text[: match.start()].rstrip()
        if before[-1:] not in ("", "=", "+"):
            return match.group()
        (right if before else left).append(_parse_special(match.group()))
        return "*"

    flt = parse_filter(_SPECIAL.sub(stand_in, text))
    return SharedFilter(
        SharedEndpoint(left[0] if left else flt.source.address, flt.source.ports),
        SharedEndpoint(right[0] if right else flt.destination.address, flt.destination.ports),
        flt.protocol,
        flt.mirrored,
        flt.message,
    )


def format_shared_filter(flt: SharedFilter) -> str:
    """The canonical text of a filter of a list, without its description."""
    if not _is_special(flt.source) and not _is_special(flt.destination):
        return format_filter(next(flt.filters()))
    left, right = map(_with_any_for_special, (flt.source, flt.destination))
    text = format_filter(Filter(left, right, flt.protocol, flt.mirrored, flt.message))
    # The sign is not looked for: a label has one of its own.
    at = len(format_filter(Filter(left, Endpoint(), mirrored=flt.mirrored))) - len("=*")
    source, sign, destination = text[:at], text[at], text[at + 1 :]
    if _is_special(flt.source):
        source = format_address_of(flt.source) + source[1:]
    if _is_special(flt.destination):
        destination = format_address_of(flt.destination) + destination[1:]
    return source + sign + destination


def format_address_of(side: SharedEndpoint) -> str:
    """The canonical text of the address of a side."""
    address = side.address
    if isinstance(address, AddressRange):
        ends = (_bracketed(address.family, value) for value in (address.first, address.last))
        return "-".join(ends)
    if isinstance(address, Servers):
        return f"{address.kind.value}({', '.join(map(format_address, address.addresses))})"
    return format_address(address)


def parse_shared_filters(text: str | bytes, source: str = "<document>") -> SharedFilters:
    """The lists and actions in a document, none if it is empty.

    Raises ``InvalidInput`` with `source` and line.
    """
    if len(text) > MAX_BYTES:
        raise InvalidInput(
            f"the document is {len(text):,} bytes long",
            f"at most {MAX_BYTES:,} are read",
            source=source,
            line=1,
        )
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        with collection_paused():
            return _Reading(decoded, source, raise_error).shared_filters()
    except UnicodeError:
        message, line = "the document is not UTF-8 text", 1
    except yaml.MarkedYAMLError as error:
        message = f"this is not YAML: {error.problem}"
        line = error.problem_mark.line + 1 if error.problem_mark else 1
    except yaml.YAMLError:
        message, line = "this is not YAML: it holds a character that no text has", 1
    raise InvalidInput(message, "write it as shown in docs/netsh.md", source=source, line=line)


def format_shared_filters(shared: SharedFilters) -> str:
    """The document of lists and actions in canonical form: each kind sorted by name."""
    lines = ["filter-lists:" if shared.lists else "filter-lists: []"]
    for filter_list in sorted(shared.lists.values(), key=lambda each: each.name):
        lines.append(f"  - filter-list: {scalar(filter_list.name)}")
        if filter_list.description:
            lines.append(f"    description: {scalar(filter_list.description)}")
        lines.append("    filters:" if filter_list.filters else "    filters: []")
        for flt in filter_list.filters:
            text = '"' + format_shared_filter(flt).replace("\\", "\\\\") + '"'
            if flt.description:
                lines.append(f"      - filter: {text}")
                lines.append(f"        description: {scalar(flt.description)}")
            else:
                lines.append(f"      - {text}")
    lines.append("filter-actions:" if shared.actions else "filter-actions: []")
    for action in sorted(shared.actions.values(), key=lambda each: each.name):
        lines.append(f"  - filter-action: {scalar(action.name)}")
        if action.description:
            lines.append(f"    description: {scalar(action.description)}")
        lines.append(f"    action: {action.action.value}")
    return _HEAD + "\n".join(lines) + "\n"


class _Reading(EventReader):
    """One document."""

    def shared_filters(self) -> SharedFilters:
        self._take()
        if isinstance(self._take(), yaml.StreamEndEvent):
            return SharedFilters()
        readers: Readers = {"filter-lists": self._lists, "filter-actions": self._actions}
        top = self._mapping(self._plain(self._take()), readers)
        self._take()
        following = self._take()
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._wrong(following, "there is more than one document", "write plain YAML")
        return SharedFilters.of(top.get("filter-lists") or (), top.get("filter-actions") or ())

    def _lists(self, event: yaml.Event) -> tuple[FilterList, ...]:
        names: set[str] = set()
        return tuple(filter(None, self._each(event, lambda item: self._list(item, names))))

    def _list(self, event: yaml.Event, names: set[str]) -> FilterList:
        readers: Readers = {
            "filter-list": self._text,
            "description": self._text,
            "filters": lambda value: self._each(value, self._filter),
        }
        values = self._mapping(event, readers)
        name = self._new_name(event, "filter-list", values.get("filter-list"), names)
        filters = tuple(values.get("filters") or ())
        return self._made(event, lambda: FilterList(name, values.get("description") or "", filters))

    def _filter(self, event: yaml.Event) -> SharedFilter:
        if not isinstance(event, yaml.MappingStartEvent):
            text = self._text(event)
            return self._made(event, lambda: parse_shared_filter(text))
        values = self._mapping(event, {"filter": self._text, "description": self._text})
        if "filter" not in values:
            raise self._wrong(event, "here is no filter", "add a line filter: …")
        written, description = values["filter"], values.get("description") or ""
        return self._made(
            event, lambda: replace(parse_shared_filter(written), description=description)
        )

    def _actions(self, event: yaml.Event) -> tuple[FilterAction, ...]:
        names: set[str] = set()
        return tuple(filter(None, self._each(event, lambda item: self._action(item, names))))

    def _action(self, event: yaml.Event, names: set[str]) -> FilterAction:
        readers: Readers = {
            "filter-action": self._text,
            "description": self._text,
            "action": self._text,
        }
        values = self._mapping(event, readers)
        name = self._new_name(event, "filter-action", values.get("filter-action"), names)
        word = values.get("action")
        action = next((each for each in Action if each.value == word), None)
        if action is None:
            written = f"{quote(word)} is" if word is not None else "nothing says"
            *others, last = (each.value for each in Action)
            which = f"{', '.join(others)} or {last}"
            raise self._wrong(
                event,
                f"{written} not {which}" if word is not None else f"{written} what it does",
                f"add a line action: {which}",
            )
        return self._made(
            event, lambda: FilterAction(name, action, values.get("description") or "")
        )

    def _new_name(self, event: yaml.Event, key: str, name: str | None, names: set[str]) -> str:
        """`name`, which must be there and not in `names`, where it is put."""
        if name is None:
            raise self._wrong(event, f"here is no {key!r}", f"add a line {key}: NAME")
        if name in names:
            noun = key.replace("-", " ")
            raise self._wrong(
                event, f"there is a {noun} {quote(name)} above already", "keep one of them"
            )
        names.add(name)
        return name

    def _made(self, event: yaml.Event, make: Callable[[], _Made]) -> _Made:
        try:
            return make()
        except InvalidInput as error:
            raise self._wrong(event, error.message, error.hint) from error


def _is_special(side: SharedEndpoint) -> bool:
    """Whether the address is none that other filters can have."""
    return isinstance(side.address, AddressRange | Servers)


def _with_any_for_special(side: SharedEndpoint) -> Endpoint:
    if isinstance(side.address, AddressRange | Servers):
        return Endpoint(Keyword.ANY, side.ports)
    return Endpoint(side.address, side.ports)


def _shared(flt: Filter) -> SharedFilter:
    source, destination = (
        SharedEndpoint(end.address, end.ports) for end in (flt.source, flt.destination)
    )
    return SharedFilter(source, destination, flt.protocol, flt.mirrored, flt.message)


def _parse_special(text: str) -> SharedAddress:
    if servers := _SERVERS.fullmatch(text):
        parts = [part.strip() for part in servers[2].split(",")]
        networks = [parse_address(part) for part in parts if part]
        if not all(isinstance(network, Network) for network in networks):
            raise InvalidInput(f"{quote(text)} has something else than addresses")
        found = tuple(network for network in networks if isinstance(network, Network))
        return Servers(ServerKind(servers[1].lower()), found)
    ends = _RANGE.fullmatch(text)
    assert ends
    first, last = map(parse_address, ends.groups())
    assert isinstance(first, Network)
    assert isinstance(last, Network)
    if first.family is not last.family:
        raise InvalidInput(
            f"the ends of the range {quote(text)} are of two IP versions", "write two filters"
        )
    try:
        return AddressRange(first.family, first.address, last.address)
    except InvalidInput as error:
        raise InvalidInput(f"{error.message}: {quote(text)}", error.hint) from error


def _bracketed(family: Family, value: int) -> str:
    text = format_value(family, value)
    return f"[{text}]" if family is Family.IPV6 else text
