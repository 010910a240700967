"""Owns the search among addresses that must not be blocked; must not know what blocks them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipsecd.model.addresses import Family, Network


@dataclass(frozen=True, slots=True)
class Protected:
    """A network that must not be blocked, as it was written, and where: a file and line."""

    network: Network
    written: str
    where: str


class ProtectedNetworks:
    """Finds a protected network that shares an address with another network.

    It costs a look-up for each prefix length that is protected, and a search, however many there
    are.
    """

    def __init__(self, entries: Iterable[Protected] = ()) -> None:
        self._entries: dict[tuple[Family, int, int], Protected] = {}
        for entry in entries:
            network = entry.network
            key = (network.family, network.length, network.address)
            self._entries.setdefault(key, entry)
        self._lengths = sorted({(family, length) for family, length, _ in self._entries})
        self._in_order = {
            family: sorted(
                (address, length) for kind, length, address in self._entries if kind is family
            )
            for family in Family
        }

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[Protected]:
        return iter(self._entries.values())

    def find(self, network: Network) -> Protected | None:
        """A protected network that holds an address of `network`, or None."""
        family = network.family
        bits = family.bits
        for kind, length in self._lengths:
            if kind is family and length <= network.length:
                first = network.address >> (bits - length) << (bits - length)
                entry = self._entries.get((family, length, first))
                if entry:
                    return entry
        in_order = self._in_order[family]
        at = bisect_left(in_order, (network.address, 0))
        if at < len(in_order) and in_order[at][0] in network:
            address, length = in_order[at]
            return self._entries[family, length, address]
        return None
