"""Owns what of a clause is said by which filters: the last step before there is an order of them.

Must not know order or actions. Hosts that a rule names where packets are delivered are taken for
addresses of this host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from ipsecctl.importing.boxes import ME, Box, CannotSay, Networks, Span
from ipsecctl.importing.regions import (
    Dim,
    Links,
    Spans,
    common,
    complement,
    networks_in,
    spans,
    spans_of,
)
from ipsecctl.importing.source import Clause, Hook
from ipsecd.model.addresses import Family
from ipsecd.model.packets import LIMITED_BROADCAST, MULTICAST
from ipsecd.model.values import ICMP, IPV6_EXTENSION_HEADERS, PROTOCOLS_WITH_PORTS

MAX_ENTRIES = 200_000
"""Prefixes that one set of addresses may become."""
_MOST_MESSAGES = 64
GROUPS = {
    family: spans(
        (
            *spans_of(network for network in MULTICAST if network.family is family),
            *([(LIMITED_BROADCAST, LIMITED_BROADCAST)] if family is Family.IPV4 else []),
        )
    )
    for family in Family
}
"""What is delivered to every host that listens: multicast, and the broadcast of any link."""


class Forms:
    """Makes boxes of clauses, on a host with these addresses; notes which it took for its own."""

    def __init__(self, links: Links, own: Iterable[tuple[Family, int]]) -> None:
        self.links = links
        self.own = frozenset(own)
        self.assumed: set[tuple[Family, int]] = set()

    def boxes(self, clause: Clause, *, opening: bool) -> tuple[Box, ...]:
        """The boxes of a clause; raises ``CannotSay`` if no filters match just that."""
        region, family = clause.region, clause.family
        ends = [self._passing(region.get(dim), clause) for dim in (Dim.SOURCE, Dim.DESTINATION)]
        if () in ends:
            return ()
        sources, destinations = ([self._addresses(some, family)] for some in ends)
        if clause.hook is Hook.IN:
            destinations = self._here(
                region.get(Dim.DESTINATION), family, before_routing=clause.before_routing
            )
        if clause.hook is Hook.OUT:
            sources = self._here(region.get(Dim.SOURCE), family)
        patterns = list(self._link_patterns(region.get(Dim.LINK)))
        return tuple(
            Box(clause.hook, family, source, destination, *transport, link, opening)
            for source, destination, link in product(sources, destinations, patterns)
            for transport in self._transports(clause)
        )

    def _addresses(self, some: Spans | None, family: Family) -> Networks | None:
        if some is None:
            return Networks(family, [(0, 0)])
        entries = []
        for entry in networks_in(some, family):
            entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise CannotSay(f"it is about more than {MAX_ENTRIES:,} networks")
        return Networks(family, entries)

    def take_for_own(self, clauses: Iterable[Clause]) -> None:
        """Take hosts that rules name where packets are delivered, or sent, for this host's.

        What is asked for before routing says nothing: Docker names its containers there.
        """
        for clause in clauses:
            dim = {Hook.IN: Dim.DESTINATION, Hook.OUT: Dim.SOURCE}.get(clause.hook)
            if dim is None or dim not in clause.region or self.own or clause.before_routing:
                continue
            self.assumed |= {
                (clause.family, first)
                for first, last in clause.region[dim]
                if first == last and not common(((first, first),), GROUPS[clause.family])
            }

    def _passing(self, some: Spans | None, clause: Clause) -> Spans | None:
        """Addresses without single ones that no packet that passes through has on that side."""
        if some is None or clause.hook is not Hook.FORWARD:
            return some
        family = clause.family
        own = {value for of, value in self.own | self.assumed if of is family}
        return tuple(
            (first, last)
            for first, last in some
            if first != last or not (first in own or common(((first, first),), GROUPS[family]))
        )

    def _here(
        self, some: Spans | None, family: Family, *, before_routing: bool = False
    ) -> list[Networks | None]:
        """This host, or those of its addresses, and the groups, that are meant.

        A host that is asked for before routing may be one that packets pass through to: it is this
        host's only if something else says so, and the same rule is there for what passes through.
        """
        if some is None:
            return [ME]
        groups = common(some, GROUPS[family])
        own = spans((value, value) for of, value in self.own if of is family)
        if own:
            hosts = common(some, own)
            if hosts == own and groups == GROUPS[family]:
                return [ME]
        else:
            hosts = tuple(part for span in some for part in _outside(span, GROUPS[family]))
            if any(first != last for first, last in hosts):
                raise CannotSay(
                    "which of these addresses are this host's is not known; say it with "
                    "--me ADDRESS"
                )
            if before_routing:
                assumed = spans((value, value) for of, value in self.assumed if of is family)
                hosts = common(hosts, assumed)
            self.assumed |= {(family, value) for value, _ in hosts}
        if not hosts and not groups:
            if before_routing:
                return []
            raise CannotSay("none of these addresses is this host's, as --me has them")
        return [self._addresses(part, family) for part in (hosts, groups) if part]

    def _link_patterns(self, some: Spans | None) -> Iterator[str]:
        if some is None:
            yield ""
            return
        pattern = self.links.pattern_for(some)
        if pattern is not None:
            yield pattern
            return
        for first, last in some:
            for at in range(first, last + 1):
                one = self.links.pattern_for(((at, at),))
                if one is None:
                    raise CannotSay("no name stands for these links alone")
                yield one

    def _transports(
        self, clause: Clause
    ) -> Iterator[tuple[int | None, Span | None, Span | None, Span | None]]:
        region = clause.region
        numbers = region.get(Dim.PROTOCOL)
        sports = _ports(region.get(Dim.SOURCE_PORT))
        dports = _ports(region.get(Dim.DESTINATION_PORT))
        messages = list(_messages(region.get(Dim.MESSAGE)))
        protocols: list[int | None] = [None]
        if numbers is not None:
            protocols = [n for first, last in numbers for n in range(first, last + 1)]
        icmp = ICMP.number(clause.family)
        with_ports = sports != [None] or dports != [None]
        if numbers is None and with_ports:
            protocols = [*sorted(PROTOCOLS_WITH_PORTS)]
        if numbers is None and messages != [None]:
            protocols = [icmp]
        for number in protocols:
            if clause.family is Family.IPV6 and number in IPV6_EXTENSION_HEADERS:
                raise CannotSay(f"protocol {number} is a header of IPv6 that is seen through")
            if with_ports and number not in PROTOCOLS_WITH_PORTS:
                continue
            if messages != [None] and number != icmp:
                continue
            for sport, dport, message in product(sports, dports, messages):
                yield number, sport, dport, message


def _outside(span: Span, groups: Spans) -> Spans:
    """What of a span is no group."""
    return tuple(complement(common((span,), groups), span))


def _ports(some: Spans | None) -> list[Span | None]:
    """Ranges of ports; no filter names port 0, which nobody can use."""
    if some is None or some == ((0, 65535),):
        return [None]
    found: list[Span | None] = [(max(1, first), last) for first, last in some if last]
    if not found:
        raise CannotSay("port 0 is no port of a filter")
    return found


def _messages(some: Spans | None) -> Iterator[Span | None]:
    """Types of ICMP with all codes, or single codes."""
    if some is None:
        yield None
        return
    count = 0
    for first, last in some:
        at = first
        while at <= last:
            whole = not at & 255 and at + 255 <= last
            yield (at, at + 255) if whole else (at, at)
            at += 256 if whole else 1
            count += 1
            if count > _MOST_MESSAGES:
                raise CannotSay("it is about too many types and codes of ICMP")
