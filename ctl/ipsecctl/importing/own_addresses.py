"""Owns the choice of addresses for a host of which nobody has said which it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ipsecctl.importing.regions import Dim, Spans, holds
from ipsecctl.importing.source import Clause
from ipsecd.model.addresses import Family, Network
from ipsecd.model.unnamed import Unnamed
from ipsecd.model.values import InForce

_POSSIBLE = {
    Family.IPV4: (0xC63364FA, 0xC00002FA, 0xCB0071FA, 0x08080808, 0x2D2D2D2D, 0x9A9A9A9A),
    Family.IPV6: (0x20010DB8 << 96 | 0xFA, 0x2A00 << 112 | 0xFA, 0x3FFE << 112 | 0xFA),
}
"""What is tried where rules name every address: some of documentation, some of anybody."""


class OwnAddresses:
    """Chooses addresses that rules and filters name as little as possible."""

    def __init__(self, clauses: Iterable[Clause], in_force: Iterable[InForce]) -> None:
        self._filters = [one.filter for one in in_force]
        self._sets: dict[Family, dict[Spans, None]] = {family: {} for family in Family}
        self._hosts = set(self._named_hosts())
        for clause in clauses:
            for dim in (Dim.SOURCE, Dim.DESTINATION):
                if dim in clause.region:
                    self._sets[clause.family][clause.region[dim]] = None

    def own(self, known: Iterable[tuple[Family, int]]) -> frozenset[tuple[Family, int]]:
        """The addresses that are known, and one of each IP version that has none."""
        own = set(known)
        for family in Family:
            if not any(of is family for of, _ in own):
                own.add((family, self._free(family, own)))
        return frozenset(own)

    def broadcasts(self, own: Iterable[tuple[Family, int]]) -> frozenset[tuple[Family, int]]:
        """The broadcast address of a link of this host."""
        return frozenset({(Family.IPV4, self._free(Family.IPV4, own))})

    def _free(self, family: Family, taken: Iterable[tuple[Family, int]]) -> int:
        """The possible address that is in the fewest sets, and none that somebody names alone."""
        others: set[int] = {value for of, value in {*taken, *self._hosts} if of is family}
        unnamed = Unnamed(self._filters, ((family, value) for value in others))
        first = unnamed.take(family)
        possible: list[int] = [*(() if first is None else (first,)), *_POSSIBLE[family]]
        free = [value for value in possible if value not in others] or possible
        return min(free, key=lambda value: self._count(family, value))

    def _count(self, family: Family, value: int) -> int:
        half: int = 1 << (family.bits - 1)
        return sum(
            holds(some, value)
            for some in self._sets[family]
            if sum(last - first + 1 for first, last in some) <= half
        )

    def _named_hosts(self) -> Iterator[tuple[Family, int]]:
        for one in self._filters:
            for end in (one.source.address, one.destination.address):
                if isinstance(end, Network) and end.length == end.family.bits:
                    yield end.family, end.address
