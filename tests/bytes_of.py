"""Packets as bytes, for tests of what reads them."""

from __future__ import annotations

import struct

from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet


def bytes_of(packet: Packet, flags: int = 0x02) -> bytes:
    """The packet from its IP header on; one that cannot be read ends before its ports."""
    data = b""
    if packet.destination_port is not None:
        data = struct.pack(">HH", packet.source_port or 0, packet.destination_port)
        data += bytes(9) + bytes((flags,)) + bytes(6)
    elif packet.icmp_type is not None:
        data = bytes((packet.icmp_type, packet.icmp_code)) + bytes(6)
    elif packet.parsed:
        data = bytes(20)
    size = packet.family.bits // 8
    addresses = packet.source.to_bytes(size, "big") + packet.destination.to_bytes(size, "big")
    hops = packet.hop_limit
    if packet.family is Family.IPV4:
        offset = 3 if packet.later_fragment else 0
        head = struct.pack(
            ">BBHHHBBH", 0x45, 0, 20 + len(data), 1, offset, hops, packet.protocol, 0
        )
        return head + addresses + data
    following = packet.protocol
    if packet.later_fragment:
        data = struct.pack(">BBHI", packet.protocol, 0, 8, 1) + data
        following = 44
    return struct.pack(">IHBB", 6 << 28, len(data), following, hops) + addresses + data
