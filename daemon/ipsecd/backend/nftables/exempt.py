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
    if pattern.hop_limit is not None:
        loaded = ex.payload(ex.NETWORK_HEADER, 8 if family is Family.IPV4 else 7, 1)
        parts.append(loaded + ex.compare(ex.EQ, bytes((pattern.hop_limit,))))
    if pattern.protocol is not None:
        parts.append(ex.meta(ex.META_L4PROTO) + ex.compare(ex.EQ, bytes((pattern.protocol,))))
    if pattern.cast is Cast.MULTICAST:
        parts.append(_multicast(family))
    elif pattern.cast is Cast.BROADCAST:
        kind = ex.address_type(ex.FIB_DADDR)
        parts.append(kind + ex.compare(ex.EQ, ex.host32(ex.RTN_BROADCAST)))
    if pattern.icmp_code is not None:
        parts.append(_holds(1, bytes((pattern.icmp_code,))))
    for first in _first(pattern, ports):
        yield b"".join((first, *parts))


def beginnings(pattern: Pattern, family: Family) -> Iterator[bytes | None]:
    """What the transport's header of what is exempt by a pattern begins with: one of these.

    Other packets may begin so too. None stands for any beginning.
    """
    if pattern.family not in (None, family):
        return
    if pattern.icmp_types:
        yield from (bytes((number,)) for number in sorted(pattern.icmp_types))
    elif pattern.source_port is not None:
        ports = (pattern.source_port, pattern.destination_port)
        yield b"".join(port.to_bytes(2, "big") for port in ports if port is not None)
    else:
        yield None


def _first(pattern: Pattern, ports: tuple[int | None, int | None]) -> Iterator[bytes]:
    """The conditions on what the transport's header begins with; any of them is enough.

    They are asked before all others: few packets meet them, and the kernel calls no function for
    such a comparison (``nft_payload_fast``, ``nft_cmp_fast``).
    """
    if pattern.icmp_types:
        yield from (_holds(0, bytes((number,))) for number in sorted(pattern.icmp_types))
        return
    source, destination = (b"" if port is None else port.to_bytes(2, "big") for port in ports)
    if source and destination:
        yield _holds(0, source + destination)
    elif source:
        yield _holds(0, source)
    else:
        yield _holds(2, destination) if destination else b""


def _holds(offset: int, value: bytes) -> bytes:
    return ex.payload(ex.TRANSPORT_HEADER, offset, len(value)) + ex.compare(ex.EQ, value)


def _multicast(family: Family) -> bytes:
    if family is Family.IPV4:
        high = ex.payload(ex.NETWORK_HEADER, 16, 1) + ex.masked(b"\xf0")
        return high + ex.compare(ex.EQ, b"\xe0")
    return ex.payload(ex.NETWORK_HEADER, 24, 1) + ex.compare(ex.EQ, b"\xff")
