"""An independent reading of a frame, from RFC 791, 8200, 4302, 2675 and IEEE 802.1Q."""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.model.addresses import Family
from ipsecd.model.values import PROTOCOLS_WITH_PORTS

TAGS = (0x8100, 0x88A8)
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)
MAX_EXTENSIONS = 8


@dataclass(frozen=True)
class Seen:
    """What filters see of a packet.

    Ports are None where there are none; so is the message, the type and code of ICMP (RFC 792,
    4443).
    """

    family: Family
    source: int
    destination: int
    protocol: int
    source_port: int | None
    destination_port: int | None
    later_fragment: bool
    message: tuple[int, int] | None = None


class Unreadable(Exception):
    """The frame ends where it should go on; the text names the parse result."""


def number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


def read_frame(frame: bytes) -> Seen | str:
    """What is in an Ethernet frame, or the name of the parse result that says why not."""
    at, kind = 14, number(frame, 12, 2)
    vlans: list[int] = []
    while len(frame) >= at and kind in TAGS and len(vlans) < 3:
        vlans.append(number(frame, at, 2) & 0xFFF)
        kind = number(frame, at + 2, 2)
        at += 4
    if len(frame) < at:
        return "link-truncated"
    if len(vlans) == 3:
        return "too-many-headers" if 0 in vlans else "not-ip"
    if kind not in (0x0800, 0x86DD):
        return "not-ip"
    return read_packet(frame[at:], 4 if kind == 0x0800 else 6)


def read_bare(packet: bytes) -> Seen | str:
    """What is in a packet without a link-layer header."""
    if not packet:
        return "link-truncated"
    version = packet[0] >> 4
    return read_packet(packet, version) if version in (4, 6) else "not-ip"


def read_packet(packet: bytes, version: int) -> Seen | str:
    try:
        return _ipv4(packet) if version == 4 else _ipv6(packet)
    except Unreadable as problem:
        return str(problem)


def _ipv4(packet: bytes) -> Seen:
    if len(packet) < 20:
        raise Unreadable("network-truncated")
    header = 4 * (packet[0] & 15)
    length = number(packet, 2, 2) or len(packet)
    if packet[0] >> 4 != 4 or header < 20 or length < header:
        raise Unreadable("network-invalid")
    later = number(packet, 6, 2) & 0x1FFF != 0
    ports = _ports(packet[:length], header, packet[9], later=later)
    addresses = number(packet, 12, 4), number(packet, 16, 4)
    message = _message(packet[:length], header, icmp=packet[9] == 1 and not later)
    return Seen(Family.IPV4, *addresses, packet[9], *ports, later, message)


def _ipv6(packet: bytes) -> Seen:
    if len(packet) < 40:
        raise Unreadable("network-truncated")
    if packet[0] >> 4 != 6:
        raise Unreadable("network-invalid")
    payload = number(packet, 4, 2)
    whole = 40 + payload
    if payload == 0 and (packet[6] == HOP_BY_HOP or len(packet) > 65535):
        whole = len(packet)
    inside = packet[:whole]
    following, at = packet[6], 40
    addresses = (number(packet, 8, 16), number(packet, 24, 16))
    for passed in range(MAX_EXTENSIONS + 1):
        if following not in EXTENSIONS:
            ports = _ports(inside, at, following, later=False)
            message = _message(inside, at, icmp=following == 58)
            return Seen(Family.IPV6, *addresses, following, *ports, False, message)
        if passed == MAX_EXTENSIONS:
            break
        if len(inside) < at + 8:
            raise Unreadable("headers-truncated")
        this, following = following, inside[at]
        if this == FRAGMENT:
            if number(inside, at + 2, 2) & 0xFFF8:
                return Seen(Family.IPV6, *addresses, following, None, None, True)
            at += 8
        elif this == AUTHENTICATION:
            at += 4 * (inside[at + 1] + 2)
        else:
            at += 8 * (inside[at + 1] + 1)
    raise Unreadable("too-many-headers")


def _ports(inside: bytes, at: int, protocol: int, *, later: bool) -> tuple[int | None, int | None]:
    if later or protocol not in PROTOCOLS_WITH_PORTS:
        return None, None
    if len(inside) < at + 4:
        raise Unreadable("transport-truncated")
    return number(inside, at, 2), number(inside, at + 2, 2)


def _message(inside: bytes, at: int, *, icmp: bool) -> tuple[int, int] | None:
    if not icmp:
        return None
    if len(inside) < at + 4:
        raise Unreadable("transport-truncated")
    return inside[at], inside[at + 1]
