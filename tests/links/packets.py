"""Owns UDP packets as bytes, from their IP header on, that a socket accepts."""

from __future__ import annotations

import struct
from ipaddress import ip_address


def udp(source: str, destination: str, port: int, payload: bytes = b"worm") -> bytes:
    """A datagram to a port, from port 4000."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    size = 8 + len(payload)
    pseudo = addresses + struct.pack(">IHH", size, 0, 17)
    datagram = struct.pack(">HHHH", 4000, port, size, 0) + payload
    checksum = _sum(pseudo + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack(">H", checksum) + payload
    return ip(addresses, 17, datagram)


def ip(addresses: bytes, protocol: int, payload: bytes) -> bytes:
    """A packet from the first to the second of two addresses, of whichever version they are."""
    if len(addresses) == 32:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0) + addresses
    return head[:10] + struct.pack(">H", _sum(head)) + addresses + payload


def _sum(data: bytes) -> int:
    """The checksum of RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
