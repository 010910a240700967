"""Owns addresses that no filter names, which can stand for what is not known; pure."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import Filter

_UNICAST = {
    Family.IPV4: (0x01000001, 0xDFFFFFFF),
    Family.IPV6: (0x2000 << 112 | 1, (0x4000 << 112) - 1),
}
"""The first and the last address that a host can have."""
_LOOPBACK = (0x7F000000, 0x7FFFFFFF)


class Unnamed:
    """The unicast addresses that neither `filters` nor anything else that was told names."""

    def __init__(
        self, filters: Iterable[Filter], addresses: Iterable[tuple[Family, int]] = ()
    ) -> None:
        self._named: dict[Family, set[tuple[int, int]]] = {family: set() for family in Family}
        self._named[Family.IPV4].add(_LOOPBACK)
        for family, address in addresses:
            self._named[family].add((address, address))
        for member in filters:
            for side in (member.source.address, member.destination.address):
                if isinstance(side, Network) and side.length:
                    last = side.address + (1 << side.family.bits - side.length) - 1
                    self._named[side.family].add((side.address, last))

    def take(self, family: Family) -> int | None:
        """The first of them, which is named from then on; None if there is none."""
        address, most = _UNICAST[family]
        for first, last in sorted(self._named[family]):
            if first > address:
                break
            address = max(address, last + 1)
        if address > most:
            return None
        self._named[family].add((address, address))
        return address
