"""Owns what a packet costs in a flood that one core sends and receives, from any source.

The time is that of the thread that sends, the median of short stretches (`bench.stretches`). Must
not know what is in force at the other end.
"""

from __future__ import annotations

import socket
import statistics
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from bench.opening import MAC, PEER_MAC, checksum
from bench.stretches import FRAMES, Stretches, raw_socket
from tests.moments.flood import in_namespace
from tests.netns.site import HERE4, HERE6, PEER

MACS = bytes.fromhex((MAC + PEER_MAC).replace(":", ""))


def datagram(source: IPv4Address | IPv6Address, sport: int, dport: int) -> bytes:
    """A frame to this host with a datagram."""
    here = (IPv4Address(HERE4) if source.version == 4 else IPv6Address(HERE6)).packed
    body = struct.pack(">HHHH", sport, dport, 16, 0) + b"datagram"
    pseudo = source.packed + here + struct.pack(">II", len(body), socket.IPPROTO_UDP)
    body = body[:6] + checksum(pseudo + body).to_bytes(2, "big") + body[8:]
    if source.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(body), socket.IPPROTO_UDP, 64)
        return MACS + b"\x86\xdd" + head + source.packed + here + body
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, socket.IPPROTO_UDP, 0)
    head += source.packed + here
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return MACS + b"\x08\x00" + head + body


def seconds_a_frame(
    sent: Stretches, stretches: int, received: Callable[[], int], link: str
) -> float:
    """The seconds of a core in which a frame is sent and received.

    `received` tells how many frames have come in by the other end of the peer's link.
    """
    before = received()
    with in_namespace(PEER), raw_socket(link) as sock:
        taken = [sent.seconds(sock, number) for number in range(stretches)]
    assert received() - before > 0.98 * stretches * FRAMES
    return statistics.median(taken) / FRAMES
