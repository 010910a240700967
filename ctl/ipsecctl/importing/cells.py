"""Owns the choice of packets that stand for all: one of every class that two sides tell apart.

Both sides of a comparison only ask whether a value is in one of finitely many sets. So values that
are in the same sets are one class, a packet is one class in each dimension, and whoever judges one
packet of each combination has judged all. Left out are later fragments, and headers that cannot be
read.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod

from ipsecctl.importing.forms import GROUPS
from ipsecctl.importing.layers import LOOPBACK_ADDRESS
from ipsecctl.importing.regions import Dim, Links, Spans, common, complement, full, holds, spans
from ipsecctl.importing.source import Cast, Hook, Mention, SourcePacket, State
from ipsecd.model.addresses import Family
from ipsecd.model.values import PROTOCOLS_WITH_PORTS

_ZERO = {Family.IPV4: ((0, (1 << 24) - 1),), Family.IPV6: ((0, 1),)}
"""What no packet on a link has for an address: 0.0.0.0/8, and in IPv6 none and loopback."""
_LOOPBACK = {Family.IPV4: ((0x7F000000, 0x7FFFFFFF),), Family.IPV6: ((0, 1),)}
_LIKED = {
    Family.IPV4: (0xC0A80107, 0xCB007107),
    Family.IPV6: (0x20010DB8 << 96 | 7,),
}
"""192.168.1.7, 203.0.113.7 and 2001:db8::7: addresses that are somebody's."""
_LIKED_THERE = {Family.IPV4: (0xC6336409,), Family.IPV6: (0x20010DB8 << 96 | 9,)}
"""198.51.100.9 and 2001:db8::9: those of somebody else."""
_ICMP = {Family.IPV4: 1, Family.IPV6: 58}


@dataclass(frozen=True, slots=True)
class Place:
    """The host that packets are chosen for: its addresses, and the broadcasts of its links."""

    own: Mapping[Family, Spans]
    broadcasts: Mapping[Family, Spans]
    links: Links
    networks: Mapping[str, Mapping[Family, Spans]]


def classes(universe: Spans, sets: Iterable[Spans], liked: Iterable[int] = ()) -> list[int]:
    """One number of `universe` for each way of being in some of the sets and in others not.

    It is one of `liked` where there is one, for the eyes of who reads it.
    """
    turns: dict[int, int] = {}
    different = tuple(dict.fromkeys((universe, *sets)))
    for bit, some in enumerate(different):
        for first, last in some:
            for at in (first, last + 1):
                turns[at] = turns.get(at, 0) ^ 1 << bit
    found: dict[int, int] = {}
    state = 0
    for at in sorted(turns):
        state ^= turns[at]
        if state & 1:
            found.setdefault(state, at)
    for number in liked:
        state = sum(1 << bit for bit, some in enumerate(different) if holds(some, number))
        if state in found:
            found[state] = number
    return list(found.values())


_Values = Sequence[int | None]
_OfPacket = tuple[int, int | None, int | None, int | None]
"""Protocol, ports and type of ICMP."""
_Transport = tuple[int, _Values, _Values, _Values]


class _Transports:
    """Protocols with all pairs of their ports, or types of ICMP: pairs are many, and not kept."""

    def __init__(self, groups: Sequence[_Transport]) -> None:
        self._groups = groups
        self._ends = list(accumulate(prod(map(len, values)) for _, *values in groups))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[_OfPacket]:
        for number, *values in self._groups:
            for sport, dport, message in product(*values):
                yield number, sport, dport, message

    def __getitem__(self, at: int) -> _OfPacket:
        group = bisect_right(self._ends, at)
        number, sports, dports, messages = self._groups[group]
        at -= self._ends[group - 1] if group else 0
        at, message = divmod(at, len(messages))
        sport, dport = divmod(at, len(dports))
        return number, sports[sport], dports[dport], messages[message]


class Cells:
    """The classes of packets at one hook and in one IP version."""

    def __init__(
        self, hook: Hook, family: Family, mentions: Sequence[Mention], place: Place
    ) -> None:
        self.hook = hook
        self.family = family
        self.place = place
        self._regions = [
            m.region for m in mentions if m.hook is hook and m.family in (None, family)
        ]
        self._dimensions = (
            self._sources(),
            self._destinations(),
            self._transports(),
            self._links(),
            self._out_links(),
            classes(((0, 4),), (((0, 2),), *self._sets(Dim.STATE))),
        )
        local = [] if hook is Hook.FORWARD else self._local()
        self._on_loopback = (local, local, *self._dimensions[2:3], [0], *self._dimensions[4:])

    @property
    def size(self) -> int:
        """How many classes there are, which may be more than what ``len`` can say."""
        sizes = (self._dimensions, self._on_loopback)
        return sum(prod(len(values) for values in each) for each in sizes)

    def all(self) -> Iterator[SourcePacket]:
        """A packet of each class."""
        for values in product(*self._dimensions):
            yield self._packet(*values)
        for values in product(*self._on_loopback):
            yield self._packet(*values)

    def some(self, number: int, seed: int) -> Iterator[SourcePacket]:
        """Packets of classes that are drawn, the same for the same seed."""
        draw = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(number):
            sources, destinations, transports, links, out_links, states = self._dimensions
            yield self._packet(
                draw.choice(sources),
                draw.choice(destinations),
                draw.choice(transports),
                draw.choice(links),
                draw.choice(out_links),
                draw.choice(states),
            )

    def _sets(self, dim: Dim, protocol: int | None = None) -> list[Spans]:
        return [
            region[dim]
            for region in self._regions
            if dim in region
            and (
                protocol is None
                or Dim.PROTOCOL not in region
                or holds(region[Dim.PROTOCOL], protocol)
            )
        ]

    def _sources(self) -> list[int]:
        own = self.place.own[self.family]
        if self.hook is Hook.OUT:
            return classes(own, self._sets(Dim.SOURCE))
        never = spans((*own, *GROUPS[self.family], *_LOOPBACK[self.family]))
        universe = complement(never, full(Dim.SOURCE, self.family))
        return classes(universe, self._sets(Dim.SOURCE), _LIKED[self.family])

    def _destinations(self) -> list[int]:
        family, sets = self.family, self._sets(Dim.DESTINATION)
        own, groups = self.place.own[family], GROUPS[family]
        broadcasts = self.place.broadcasts[family]
        if self.hook is Hook.IN:
            sets += [own, broadcasts]
            return classes(spans((*own, *groups, *broadcasts)), sets)
        never = spans((*own, *_ZERO[family], *_LOOPBACK[family]))
        if self.hook is Hook.FORWARD:
            never = spans((*never, *groups, *broadcasts))
        if Dim.OUT_LINK in {dim for region in self._regions for dim in region}:
            sets += [n[family] for n in self.place.networks.values() if n[family]]
        universe = complement(never, full(Dim.DESTINATION, family))
        return classes(universe, [*sets, groups, broadcasts], _LIKED_THERE[family])

    def _local(self) -> list[int]:
        """What a packet on lo can have on either side."""
        own, loopback = self.place.own[self.family], LOOPBACK_ADDRESS[self.family]
        universe = spans((*own, (loopback, loopback)))
        return classes(universe, [*self._sets(Dim.SOURCE), *self._sets(Dim.DESTINATION), own])

    def _transports(self) -> _Transports:
        icmp = _ICMP[self.family]
        apart = [((number, number),) for number in sorted({icmp, *PROTOCOLS_WITH_PORTS})]
        # Of IPv6 the extension headers are seen through: no packet has one for its protocol.
        universe: Spans = ((1, 255),)
        if self.family is Family.IPV6:
            universe = complement(((0, 0), (43, 44), (51, 51), (60, 60)), (0, 255))
        nothing: list[int | None] = [None]
        groups: list[_Transport] = []
        for number in classes(universe, [*self._sets(Dim.PROTOCOL), *apart]):
            if number in PROTOCOLS_WITH_PORTS:
                sports, dports = (
                    classes(((1, 65535),), self._sets(dim, number), (9999, 40000))
                    for dim in (Dim.SOURCE_PORT, Dim.DESTINATION_PORT)
                )
                groups.append((number, sports, dports, nothing))
            elif number == icmp:
                messages = classes(((0, 65535),), self._sets(Dim.MESSAGE, number))
                groups.append((number, nothing, nothing, messages))
            else:
                groups.append((number, nothing, nothing, nothing))
        return _Transports(groups)

    def _links(self) -> list[int]:
        names = len(self.place.links.names)
        return classes(((1, names - 1),), self._sets(Dim.LINK))

    def _out_links(self) -> list[int]:
        """Where packets go out; where the networks of links are known, the destination says it."""
        if self.hook is not Hook.FORWARD or self.place.networks:
            return [1]
        names = len(self.place.links.names)
        return classes(((1, names - 1),), self._sets(Dim.OUT_LINK))

    def _packet(
        self,
        source: int,
        destination: int,
        transport: _OfPacket,
        link: int,
        out_link: int,
        state: int,
    ) -> SourcePacket:
        names = self.place.links.names
        protocol, sport, dport, message = transport
        out = names[out_link] if self.hook is Hook.FORWARD else ""
        for name, networks in self.place.networks.items():
            if out and holds(networks[self.family], destination):
                out = name
        return SourcePacket(
            *(self.hook, self.family, source, destination, protocol, sport, dport, message),
            *(names[link], out, State(state), self._cast(destination)),
        )

    def _cast(self, destination: int) -> Cast:
        at = ((destination, destination),)
        if common(at, self.place.broadcasts[self.family]):
            return Cast.BROADCAST
        if common(at, GROUPS[self.family]):
            limited = self.family is Family.IPV4 and destination == 0xFFFFFFFF
            return Cast.BROADCAST if limited else Cast.MULTICAST
        local = (*self.place.own[self.family], *_LOOPBACK[self.family])
        return Cast.LOCAL if common(at, spans(local)) else Cast.OTHER
