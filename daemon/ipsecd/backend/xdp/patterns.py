"""Owns the lines of what is exempt, which programs look at before they drop a packet; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ipsecd.backend.xdp import abi
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Cast, Pattern
from ipsecd.model.packets import Point
from ipsecd.model.values import TCP, UDP

_CASTS = {None: 0, Cast.MULTICAST: abi.CAST_MULTICAST, Cast.BROADCAST: abi.CAST_BROADCAST}
_EVERY_PORT = (1 << abi.EXEMPT_BITS) - 1


def patterns_at(patterns: Iterable[Pattern], point: Point, family: Family) -> list[Pattern]:
    """The patterns that are exempt at a point."""
    return [
        pattern
        for pattern in patterns
        if point in pattern.points and pattern.family in (None, family)
    ]


def exempt_words(patterns: Iterable[Pattern]) -> list[int]:
    """For each protocol that has a word of its own: which destination ports may be exempt."""
    words = [0] * abi.EXEMPT_WORDS
    for pattern in patterns:
        port = _destination_port(pattern)
        bits = _EVERY_PORT if port is None else 1 << port % abi.EXEMPT_BITS
        for number in range(abi.EXEMPT_WORDS):
            if pattern.protocol is None or number == _word_of(pattern.protocol):
                words[number] |= bits
    return words


def pattern_line(pattern: Pattern) -> bytes:
    """The line of a pattern."""
    fields = 0
    destination_port = _destination_port(pattern)
    for value, bit in (
        (pattern.protocol, abi.HAS_PROTOCOL),
        (pattern.source_port, abi.HAS_SPORT),
        (destination_port, abi.HAS_DPORT),
        (pattern.hop_limit, abi.HAS_HOP_LIMIT),
        (pattern.icmp_types or None, abi.HAS_ICMP_TYPES),
    ):
        fields |= bit if value is not None else 0
    types = sorted(pattern.icmp_types)
    types += types[-1:] * (4 - len(types))
    return abi.PATTERN.pack(
        fields,
        pattern.protocol or 0,
        pattern.hop_limit or 0,
        _CASTS[pattern.cast],
        struct.unpack("=H", struct.pack(">H", pattern.source_port or 0))[0],
        struct.unpack("=H", struct.pack(">H", destination_port or 0))[0],
        bytes(types),
    )


def _word_of(protocol: int) -> int:
    return {UDP: abi.EXEMPT_UDP, TCP: abi.EXEMPT_TCP}.get(protocol, abi.EXEMPT_OTHER)


def _destination_port(pattern: Pattern) -> int | None:
    """What programs have as the destination port; with ICMP it is type and code."""
    if pattern.icmp_code is None:
        return pattern.destination_port
    return min(pattern.icmp_types) << 8 | pattern.icmp_code
