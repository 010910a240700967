"""Owns the lines of what is exempt: patterns as programs read them; must not know steps."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ipsecd.backend.xdp import abi
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Cast, Pattern
from ipsecd.model.packets import Point

_CASTS = {None: 0, Cast.MULTICAST: abi.CAST_MULTICAST, Cast.BROADCAST: abi.CAST_BROADCAST}


def pattern_lines(patterns: Iterable[Pattern], point: Point, family: Family) -> list[bytes]:
    """The lines of the patterns that are exempt at a point."""
    return [
        _pattern(pattern)
        for pattern in patterns
        if point in pattern.points and pattern.family in (None, family)
    ]


def _pattern(pattern: Pattern) -> bytes:
    fields = 0
    destination_port = pattern.destination_port
    if pattern.icmp_code is not None:
        # Programs have type and code of ICMP where they have the destination port of others.
        destination_port = min(pattern.icmp_types) << 8 | pattern.icmp_code
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
