"""Owns the conditions under which a packet is exempt, as expressions."""

from __future__ import annotations

from collections.abc import Iterator

from ipsecd.backend.nftables import expressions as ex
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Cast, Pattern


def conditions(pattern: Pattern, family: Family, *, fragment: bool) -> Iterator[bytes]:
    """The conditions of an exempt pattern, one for each ICMP type; none if it cannot match."""
    ports = (pattern.source_port, pattern.destination_port)
    if fragment and (ports != (None, None) or pattern.icmp_types):
        return
    if pattern.cast is Cast.BROADCAST and family is Family.IPV6:
        return
    parts = []
    if pattern.protocol is not None:
        parts.append(ex.meta(ex.META_L4PROTO) + ex.compare(ex.EQ, bytes((pattern.protocol,))))
    for offset, port in ((0, ports[0]), (2, ports[1])):
        if port is not None:
            loaded = ex.payload(ex.TRANSPORT_HEADER, offset, 2)
            parts.append(loaded + ex.compare(ex.EQ, port.to_bytes(2, "big")))
    if pattern.hop_limit is not None:
        loaded = ex.payload(ex.NETWORK_HEADER, 8 if family is Family.IPV4 else 7, 1)
        parts.append(loaded + ex.compare(ex.EQ, bytes((pattern.hop_limit,))))
    if pattern.cast is Cast.MULTICAST:
        parts.append(_multicast(family))
    elif pattern.cast is Cast.BROADCAST:
        kind = ex.address_type(ex.FIB_DADDR)
        parts.append(kind + ex.compare(ex.EQ, ex.host32(ex.RTN_BROADCAST)))
    fixed = b"".join(parts)
    if not pattern.icmp_types:
        yield fixed
    for number in sorted(pattern.icmp_types):
        code = () if pattern.icmp_code is None else (pattern.icmp_code,)
        loaded = ex.payload(ex.TRANSPORT_HEADER, 0, 1 + len(code))
        yield fixed + loaded + ex.compare(ex.EQ, bytes((number, *code)))


def _multicast(family: Family) -> bytes:
    if family is Family.IPV4:
        high = ex.payload(ex.NETWORK_HEADER, 16, 1) + ex.masked(b"\xf0")
        return high + ex.compare(ex.EQ, b"\xe0")
    return ex.payload(ex.NETWORK_HEADER, 24, 1) + ex.compare(ex.EQ, b"\xff")
