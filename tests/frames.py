"""Packets of the model as bytes."""

from __future__ import annotations

import struct

from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point


def encode(packet: Packet, number: int) -> bytes:
    """The packet's bytes, with `number` as its identification or flow label."""
    if packet.source_port is not None and packet.destination_port is not None:
        payload = struct.pack(">HHHHIHHHH", packet.source_port, packet.destination_port, 20, 0,
                              0, 0x5002, 0, 0, 0)  # fmt: skip
    elif packet.icmp_type is not None:
        payload = bytes([packet.icmp_type, packet.icmp_code]) + bytes(22)
    else:
        payload = struct.pack(">HH", 80, 1434) + bytes(20)
    if packet.family is Family.IPV4:
        offset = 100 if packet.later_fragment else 0
        head = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number, offset, packet.hop_limit,
            packet.protocol, 0, packet.source.to_bytes(4, "big"),
            packet.destination.to_bytes(4, "big"),
        )  # fmt: skip
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        checked: bytes = head[:10] + total.to_bytes(2, "big") + head[12:]
        return checked + payload
    protocol = packet.protocol
    if packet.later_fragment:
        payload = struct.pack(">BBHI", protocol, 0, 100 << 3, number) + payload
        protocol = 44
    addresses = packet.source.to_bytes(16, "big") + packet.destination.to_bytes(16, "big")
    first = 6 << 28 | number
    return (
        struct.pack(">IHBB", first, len(payload), protocol, packet.hop_limit) + addresses + payload
    )


def encode_udp(packet: Packet) -> bytes:
    """A UDP packet of IPv4 that a socket accepts: its payload is ``worm``, without a checksum."""
    head = bytearray(encode(packet, 1)[:20])
    struct.pack_into(">H", head, 2, 32)
    struct.pack_into(">H", head, 10, 0)
    total = sum(struct.unpack(">10H", head))
    struct.pack_into(">H", head, 10, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    udp = struct.pack(">HHHH", packet.source_port or 0, packet.destination_port or 0, 12, 0)
    return bytes(head) + udp + b"worm"


def frame_of(*, source: int, destination: int, source_port: int, port: int) -> bytes:
    """A UDP packet of IPv4 in an Ethernet frame."""
    packet = Packet(Point.ARRIVING, Family.IPV4, source, destination, 17, source_port, port)
    return frame(packet, 1)


def frame(packet: Packet, number: int) -> bytes:
    """The packet in an Ethernet frame."""
    kind = b"\x08\x00" if packet.family is Family.IPV4 else b"\x86\xdd"
    # To the hardware address of the loopback interface, where test runs take place.
    return bytes(12) + kind + encode(packet, number)
