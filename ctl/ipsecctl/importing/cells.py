"""Owns the choice of packets that stand for all: one of every class that two sides tell apart.

Both sides of a comparison only ask whether a value is in one of finitely many sets. So values that are
in the same sets are one class, a packet is one class in each dimension, and whoever judges one packet
of each combination has judged all. Later fragments, and headers that cannot be read, are left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ipsecctl.importing.forms import GROUPS
from ipsecctl.importing.regions import Dim, Links, Spans, common, complement, full, holds, spans
from ipsecctl.importing.source import Cast, Hook, Mention, SourcePacket, State
from ipsecd.model.addresses import Family
from ipsecd.model.values import PROTOCOLS_WITH_PORTS

_ZERO = {Family.IPV4: ((0, (1 << 24) - 1),), Family.IPV6: ((0, 1),)}
"""What no packet on a link has for an address: 0.0.0.0/8, and in IPv6 none and loopback."""
_LOOPBACK = {Family.IPV4: ((0x7F000000, 0x7FFFFFFF),), Family.IPV6: ((0, 1),)}
_ICMP = {Family.IPV4: 1, Family.IPV6: 58}


@dataclass(frozen=True, slots=True)
class Place:
    """The host that packets are chosen for: its addresses, and the broadcasts of its links."""

    own: Mapping[Family, Spans]
    broadcasts: Mapping[Family, Spans]
    links: Links
    networks: Mapping[str, Mapping[Family, Spans]]


def classes(universe: Spans, sets: Iterable[Spans]) -> list[int]:
    """One number of `universe` for each way of being in some of the sets and in others not."""
    turns: dict[int, int] = {}
    for bit, some in enumerate(dict.fromkeys((universe, *sets))):
        for first, last in some:
            for at in (first, last + 1):
                turns[at] = turns.get(at, 0) ^ 1 << bit
    found: dict[int, int] = {}
    state = 0
    for at in sorted(turns):
        state ^= turns[at]
        if state & 1:
            found.setdefault(state, at)
    return list(found.values())


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
        self._dimensions = [
            self._sources(),
            self._destinations(),
            list(self._transports()),
            self._links(),
            self._out_links(),
            classes(((0, 4),), (((0, 2),), *self._sets(Dim.STATE))),
        ]

    def __len__(self) -> int:
        number = 1
        for values in self._dimensions:
            number *= len(values)
        return number

    def all(self) -> Iterator[SourcePacket]:
        """A packet of each class."""
        for values in product(*self._dimensions):
            yield self._packet(*values)

    def some(self, number: int, seed: int) -> Iterator[SourcePacket]:
        """Packets of classes that are drawn, the same for the same seed."""
        draw = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(number):
            yield self._packet(*map(draw.choice, self._dimensions))

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
        return classes(universe, self._sets(Dim.SOURCE))

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
        return classes(universe, [*sets, groups, broadcasts])

    def _transports(self) -> Iterator[tuple[int, int | None, int | None, int | None]]:
        """Protocol, ports and type of ICMP."""
        icmp = _ICMP[self.family]
        apart = [((number, number),) for number in sorted({icmp, *PROTOCOLS_WITH_PORTS})]
        # Of IPv6 the extension headers are seen through: no packet has one for its protocol.
        universe: Spans = ((1, 255),)
        if self.family is Family.IPV6:
            universe = complement(((0, 0), (43, 44), (51, 51), (60, 60)), (0, 255))
        for number in classes(universe, [*self._sets(Dim.PROTOCOL), *apart]):
            if number in PROTOCOLS_WITH_PORTS:
                ports = (
                    classes(((1, 65535),), self._sets(dim, number))
                    for dim in (Dim.SOURCE_PORT, Dim.DESTINATION_PORT)
                )
                for sport, dport in product(*ports):
                    yield number, sport, dport, None
            elif number == icmp:
                for message in classes(((0, 65535),), self._sets(Dim.MESSAGE, number)):
                    yield number, None, None, message
            else:
                yield number, None, None, None

    def _links(self) -> list[int]:
        names = len(self.place.links.names)
        first = 1 if self.hook is Hook.FORWARD else 0
        return classes(((first, names - 1),), (((0, 0),), *self._sets(Dim.LINK)))

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
        transport: tuple[int, int | None, int | None, int | None],
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
        return Cast.LOCAL if common(at, self.place.own[self.family]) else Cast.OTHER
