"""Owns reading what filters ask of a packet from its first bytes, as the kernel's look does.

Pure; any bytes give a packet or None. Sources: RFC 791, RFC 8200, RFC 4302, RFC 9293.
"""

from __future__ import annotations

from typing import NamedTuple

from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import IPV6_EXTENSION_HEADERS, PROTOCOLS_WITH_PORTS, TCP, InterfaceType

MOST_EXTENSIONS = 8
_HOP_BY_HOP, _FRAGMENT, _AUTHENTICATION = 0, 44, 51
_ICMP = {Family.IPV4: 1, Family.IPV6: 58}
_FLAGS = "FSRPAUEC"
"""The letters of the flags of TCP, the lowest bit first."""
_SHOWN = "SAFRPUEC"
"""The same in the order in which they are shown: those that open a connection come first."""


class Read(NamedTuple):
    """A packet that was read from bytes, and the flags of TCP that it has, as letters."""

    packet: Packet
    flags: str


class _Inside(NamedTuple):
    """Where the header of the transport begins, and what is known of it; 0 if it cannot be read."""

    protocol: int
    offset: int
    later_fragment: bool = False


def read_packet(
    data: bytes,
    point: Point,
    interface: str,
    interface_type: InterfaceType | None,
) -> Read | None:
    """The packet that begins with `data`, its IP header; None if even its addresses are missing.

    Whether it opens a connection is not to be seen, and it is taken for one that does.
    """
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        family, inside = Family.IPV4, _ipv4(data)
        source, destination, hops = data[12:16], data[16:20], data[8]
    elif version == 6 and len(data) >= 40:
        family, inside = Family.IPV6, _ipv6(data)
        source, destination, hops = data[8:24], data[24:40], data[7]
    else:
        return None
    protocol, offset, later = inside
    first = data[offset : offset + 4]
    has_ports, is_icmp = protocol in PROTOCOLS_WITH_PORTS, protocol == _ICMP[family]
    parsed = bool(offset) and (later or len(first) == 4 or not (has_ports or is_icmp))
    ports: tuple[int | None, int | None] = (None, None)
    icmp_type, icmp_code = None, 0
    if parsed and not later and has_ports:
        ports = int.from_bytes(first[:2], "big"), int.from_bytes(first[2:], "big")
    elif parsed and not later and is_icmp:
        icmp_type, icmp_code = first[0], first[1]
    packet = Packet(
        point,
        family,
        int.from_bytes(source, "big"),
        int.from_bytes(destination, "big"),
        protocol,
        *ports,
        interface_type,
        later_fragment=later,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        hop_limit=hops,
        parsed=parsed,
        interface=interface,
    )
    is_tcp = protocol == TCP and ports != (None, None)
    return Read(packet, _flags(data[offset + 13 : offset + 14]) if is_tcp else "")


def _ipv4(data: bytes) -> _Inside:
    header = (data[0] & 15) * 4
    length = int.from_bytes(data[2:4], "big") or len(data)
    later = bool(int.from_bytes(data[6:8], "big") & 0x1FFF)
    is_whole = 20 <= header <= length
    end_of_first = header + 4
    if is_whole and not later and _needs_transport(Family.IPV4, data[9]) and end_of_first > length:
        is_whole = False
    return _Inside(data[9], header if is_whole else 0, later)


def _ipv6(data: bytes) -> _Inside:
    protocol, offset = data[6], 40
    said = int.from_bytes(data[4:6], "big")
    # A jumbogram says its length elsewhere (RFC 2675).
    limit = 40 + said if said or protocol != _HOP_BY_HOP else len(data)
    for _ in range(MOST_EXTENSIONS):
        if protocol not in IPV6_EXTENSION_HEADERS:
            break
        header = data[offset : offset + 8]
        if len(header) < 8 or offset + 8 > limit:
            return _Inside(protocol, 0)
        kind, protocol = protocol, header[0]
        if kind == _FRAGMENT:
            if int.from_bytes(header[2:4], "big") & 0xFFF8:
                # What follows is payload, whatever it is called (RFC 8200, section 4.5).
                return _Inside(protocol, offset, later_fragment=True)
            offset += 8
        elif kind == _AUTHENTICATION:
            offset += (header[1] + 2) * 4
        else:
            offset += (header[1] + 1) * 8
    too_many = protocol in IPV6_EXTENSION_HEADERS
    ends_early = _needs_transport(Family.IPV6, protocol) and offset + 4 > limit
    return _Inside(protocol, 0 if too_many or ends_early else offset)


def _needs_transport(family: Family, protocol: int) -> bool:
    """Whether filters ask for what the header of the transport begins with."""
    return protocol in PROTOCOLS_WITH_PORTS or protocol == _ICMP[family]


def _flags(bits: bytes) -> str:
    """The flags of TCP as letters; "" where they are missing."""
    value = bits[0] if bits else 0
    return "".join(letter for letter in _SHOWN if value >> _FLAGS.index(letter) & 1)
