"""Owns which of many packets makes a good example; must not know why there are that many."""

from __future__ import annotations

from ipsecd.model.addresses import Family
from ipsecd.model.packets import MULTICAST, ZERO_NETWORK, Host, Point

_NICE = {
    Family.IPV4: (0xC6336407, 0xCB007107, 0xC0000207),
    Family.IPV6: (0x20010DB8 << 96 | 7, 0x2001_0DB8_0001 << 80 | 7),
}
"""198.51.100.7 and others that are kept for examples (RFC 5737, RFC 3849)."""
_PREFERRED = {"source port": (40000,), "destination port": (443, 80)}
_ECHO_REQUEST = {Family.IPV4: 8 << 8, Family.IPV6: 128 << 8}
_RESERVED_IPV4 = 0xF0000000


def choose_number(family: Family, dimension: str, span: tuple[int, int]) -> tuple[int, int]:
    """How bad an example the best number of a span makes, and that number; 0 is best."""
    first, last = span
    preferred = _PREFERRED.get(dimension, ())
    if dimension == "message":
        preferred = (_ECHO_REQUEST[family],)
    for number in preferred:
        if first <= number <= last:
            return 0, number
    if dimension not in _PREFERRED:
        return first, first
    return (1, first) if first else (2, min(1, last))


class Addresses:
    """Chooses addresses: best is one of this host where it is expected, then anybody's."""

    def __init__(self, host: Host, family: Family, point: Point, dimension: str) -> None:
        loopback = (127 << 24, (128 << 24) - 1) if family is Family.IPV4 else (1, 1)
        own = sorted(value for of, value in host.addresses if of is family)
        self._own = frozenset(own)
        self._nice = _NICE[family]
        self._special = [(0, 0), loopback]
        self._special += [(value, value) for of, value in host.broadcasts if of is family]
        self._special += [
            (net.address, net.address | (1 << family.bits - net.length) - 1)
            for net in (*MULTICAST, ZERO_NETWORK)
            if net.family is family
        ]
        if family is Family.IPV4:
            self._special.append((_RESERVED_IPV4, (1 << 32) - 1))
        self._expected: list[int] = []
        if (point, dimension) in {(Point.SENDING, "source"), (Point.ARRIVING, "destination")}:
            self._expected = [value for value in own if not loopback[0] <= value <= loopback[1]]

    def good(self, span: tuple[int, int]) -> list[int]:
        """The addresses of a span that make the best examples, best first; often none."""
        first, last = span
        others = [value for value in self._nice if value not in self._own]
        return [value for value in (*self._expected, *others) if first <= value <= last]

    def choose(self, span: tuple[int, int]) -> tuple[int, int]:
        """How bad an example the best address of a span makes, and that address; 0 is best."""
        first, last = span
        for value in self.good(span):
            return int(value not in self._expected), value
        # The first address of a network is seldom anybody's.
        candidates = (min(first + 1, last), first, last, (first + last) // 2)
        return min(map(self._judged, candidates))

    def _judged(self, value: int) -> tuple[int, int]:
        if value in self._own:
            return 4, value
        if any(first <= value <= last for first, last in self._special):
            return 3, value
        return 1 + (not value & 0xFF), value
