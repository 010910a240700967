"""Owns making a policy and lists of boxes; must not know how they were found.

A rule of the policy is a line of the source: it has the line's number and text for a name, and all
filters that it needs, also where it has to be said twice to be specific enough.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from ipsecctl.importing.boxes import ME, Box, Networks
from ipsecctl.importing.regions import networks_in, spans_of
from ipsecctl.importing.source import Kind, Line, Note, Ordered
from ipsecctl.importing.specific import Placed
from ipsecd.model.addresses import MAX_LIST_NAME, Address, Family, Keyword, ListName, Network
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import Conditions, LinkName
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.values import MAX_NAME, Endpoint, Filter, Policy, PortRange, Rule
from ipsecd.quoting import count, visible

MOST_IN_FILTERS = 8
"""As many prefixes of one set are written as filters; more become a list."""
MAX_DESCRIPTION = 6_000

Side = tuple[Address, ...]
Ports = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Written:
    """A policy and the lists that it names, by their names."""

    policy: Policy
    lists: Mapping[str, AddressList]
    lines: Mapping[str, Line]
    """The line of the source that each rule of the policy is of, by the rule's name."""


def write(
    name: str, placed: Sequence[Placed], notes: Sequence[Note], source: str, ordered: Ordered
) -> Written:
    """The policy that is called `name`; `source` says what it was made of."""
    lists = _Lists(ordered.lists)
    rules: list[Rule] = []
    lines: dict[str, Line] = {}
    several = len({one.line.file for one in placed if one.line.number}) > 1
    order = {line: at for at, line in enumerate(_lines(placed))}
    for (line, action, link, opening), group in groupby(
        sorted(placed, key=lambda one: (order[one.line], *_conditions_key(one))),
        key=lambda one: (one.line, one.action, one.box.link, one.box.opening),
    ):
        members = list(group)
        filters = _filters(members, lists)
        conditions = Conditions(LinkName(link) if link else None, opening)
        rule_name = _unique(_rule_name(line, several=several), lines)
        lines[rule_name] = line
        rules.append(Rule(rule_name, tuple(filters), action, conditions))
    policy = Policy(name, tuple(rules), _description(notes, source), audit=ordered.audit)
    return Written(policy, lists.by_name, lines)


def _lines(placed: Sequence[Placed]) -> list[Line]:
    return sorted({one.line for one in placed}, key=lambda one: (one.file, one.number, one.text))


def _conditions_key(one: Placed) -> tuple[str, str, bool]:
    return one.action.value, one.box.link, one.box.opening


class _Lists:
    """The lists that were made so far: sets with the same entries are one list."""

    def __init__(self, kept: Mapping[str, AddressList]) -> None:
        self.by_name: dict[str, AddressList] = dict(kept)
        self._names: dict[frozenset[Network], str] = {}
        self._kept = {
            (name, family): _fewest(entries, family)
            for name, entries in kept.items()
            for family in Family
        }

    def kept_name(self, wanted: str, networks: Networks) -> str | None:
        """The list that is kept and has the very addresses of a set; None if there is none."""
        here = self._kept.get((wanted, networks.family))
        return wanted if here == networks.entries else None

    def name_of(self, networks: Iterable[Network], wanted: str, line: Line) -> str:
        """The name of the list with these entries, as near to `wanted` as can be."""
        entries = frozenset(networks)
        if entries in self._names:
            return self._names[entries]
        base = re.sub(r"[^A-Za-z0-9._-]", "-", wanted).strip("-._") or f"line-{line.number}"
        name = base[: MAX_LIST_NAME - 4]
        number = 2
        while name in self.by_name:
            name = f"{base[: MAX_LIST_NAME - 4]}-{number}"
            number += 1
        self._names[entries] = name
        self.by_name[name] = listed(sorted(entries, key=lambda n: (n.family, n.address, n.length)))
        return name


def _fewest(entries: AddressList, family: Family) -> tuple[tuple[int, int], ...]:
    """The addresses of one IP version as the fewest prefixes, sorted."""
    some = spans_of(network for network in entries.networks() if network.family is family)
    return tuple(sorted(networks_in(some, family)))


def _filters(members: Sequence[Placed], lists: _Lists) -> list[Filter]:
    """The filters of one rule: both IP versions together where nothing tells them apart."""
    found: dict[Filter, None] = {}
    by_family: dict[Family, dict[tuple[object, ...], None]] = {f: {} for f in Family}
    for one in members:
        by_family[one.box.family].setdefault(_anywhere(one.box))
    common = by_family[Family.IPV4].keys() & by_family[Family.IPV6].keys()
    groups: dict[tuple[object, ...], list[Box]] = {}
    for one in members:
        box = one.box
        both = _anywhere(box) in common and _needs_no_address(box)
        if both and box.family is Family.IPV6:
            continue
        ports_aside = (both, box.family, box.source, box.destination, box.protocol, box.message)
        groups.setdefault((*ports_aside, box.source_ports), []).append(box)
    for key, boxes in groups.items():
        first = boxes[0]
        sports = _port_ranges([first.source_ports])
        sources, destinations = (
            _side(end, bool(key[0]), lists, members[0]) for end in (first.source, first.destination)
        )
        apart = _apart(box.destination_ports for box in boxes)
        ends = product(sources, destinations, apart)
        for source, destination, dports in ends:
            to = Endpoint(destination, _port_ranges(dports))
            one_filter = Filter(
                Endpoint(source, sports), to, first.protocol, message=_message(first)
            )
            found[one_filter] = None
    return list(found)


def _anywhere(box: Box) -> tuple[object, ...]:
    """What two boxes of both IP versions have in common if they say the same."""
    return (
        *(end is ME or ("any" if end.everything else end) for end in (box.source, box.destination)),
        *(box.protocol, box.source_ports, box.destination_ports, box.message),
    )


def _needs_no_address(box: Box) -> bool:
    return all(end is ME or end.everything for end in (box.source, box.destination))


def _side(networks: Networks | None, both: bool, lists: _Lists, placed: Placed) -> Side:
    if networks is ME:
        return (Keyword.ME,)
    if both:
        return (Keyword.ANY,)
    kept = lists.kept_name(placed.set_name, networks)
    if kept is not None:
        return (ListName(kept),)
    found = [Network(networks.family, value, length) for value, length in networks.entries]
    if len(found) <= MOST_IN_FILTERS:
        return tuple(found)
    return (ListName(lists.name_of(found, placed.set_name, placed.line)),)


def _apart(ranges: Iterable[Ports]) -> list[list[Ports]]:
    """The ranges in as few groups as needed for those of one group not to overlap."""
    groups: list[list[Ports]] = []
    for one in sorted(set(ranges), key=lambda each: each or (0, 0)):
        for group in groups:
            last = group[-1]
            if one is not None and last is not None and last[1] < one[0]:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _port_ranges(ranges: Iterable[Ports]) -> tuple[PortRange, ...]:
    """Ranges, of which each stays as wide as it is: that is part of its rank."""
    return tuple(PortRange(*one) for one in sorted({one for one in ranges if one}))


def _message(box: Box) -> IcmpMessage | None:
    if box.message is None:
        return None
    first, last = box.message
    code = None if last > first else first & 255
    version = box.family is Family.IPV4
    return IcmpMessage(first >> 8 if version else None, None if version else first >> 8, code)


def _rule_name(line: Line, *, several: bool) -> str:
    text = visible(" ".join(line.text.split())).strip()
    name = f"{line.number}: {text}" if line.number else text
    if several and line.number:
        name = f"{visible(line.file.rpartition('/')[2])[:60]}:{name}"
    return (name[: MAX_NAME - 10].strip()) or "rule"


def _unique(name: str, names: Container[str]) -> str:
    number, unique = 2, name
    while unique in names:
        unique = f"{name} ({number})"
        number += 1
    return unique


def _description(notes: Sequence[Note], source: str) -> str:
    """What the policy is made of, and what is not in it, so that nobody forgets it."""
    left_out = [note for note in notes if note.kind is Kind.LEFT_OUT]
    lines = [f"Imported from {source}."]
    if left_out:
        lines.append(f"Not in it: {count(len(left_out), 'rule')}, wholly or in part.")
    by_reason: dict[tuple[str, bool], list[str]] = {}
    for note in left_out:
        text = visible(" ".join(note.line.text.split()))
        place = f"{visible(note.line.where)}: {text[:160]}"
        by_reason.setdefault((note.reason, note.weaker), []).append(place)
    for (reason, weaker), places in sorted(by_reason.items(), key=lambda item: not item[0][1]):
        lines += places
        lines.append(f"- {reason}{'. THIS POLICY LETS MORE PASS' if weaker else ''}")
    text = "\n".join(lines)
    if len(text) > MAX_DESCRIPTION:
        text = text[:MAX_DESCRIPTION].rpartition("\n")[0] + "\nand more: see the report."
    return text
