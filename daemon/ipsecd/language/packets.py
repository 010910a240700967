"""Owns the text of packets, as ``explain`` takes them; must not know filters.

``PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [fragment] [in IFACE | out IFACE]``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import format_value, ipv4_value, ipv6_value
from ipsecd.language.protocols import format_protocol, parse_protocol
from ipsecd.language.quoting import is_number, quote, wrong
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    PROTOCOLS_WITH_PORTS,
    Family,
    IcmpOfFamily,
    InterfaceType,
    Keyword,
)

Side = tuple[Family, int] | Keyword


@dataclass(frozen=True, slots=True)
class PacketText:
    """A packet as it was written; ``direction`` is "in", "out" or "" and names ``interface``."""

    text: str
    protocol: int | IcmpOfFamily
    source: Side
    source_port: int | None
    destination: Side
    destination_port: int | None
    fragment: bool = False
    direction: str = ""
    interface: str = ""


def parse_packet(text: str) -> PacketText:
    """The packet that `text` describes; raises ``InvalidInput`` with a position in `text`."""
    head, arrow, tail = text.partition(">")
    left, right = head.split(), tail.split()
    if not arrow or len(left) != 2 or not right:
        raise wrong(
            text,
            0,
            f"{quote(text)} is not a packet",
            "write PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT], as in "
            "udp 203.0.113.7:4000 > me:1434",
        )
    protocol = parse_protocol(left[0])
    source, source_port = _side(text, left[1])
    destination, destination_port = _side(text, right[0])
    words = right[1:]
    fragment = words[:1] == ["fragment"]
    words = words[1:] if fragment else words
    if words and (len(words) != 2 or words[0] not in ("in", "out")):
        raise wrong(
            text,
            text.rindex(words[0]),
            f"{quote(' '.join(words))} is not understood",
            "after the addresses there may be: fragment, then in IFACE or out IFACE",
        )
    has_ports = source_port is not None or destination_port is not None
    if protocol in PROTOCOLS_WITH_PORTS and not fragment:
        if source_port is None or destination_port is None:
            raise wrong(
                text,
                0,
                f"a {left[0].upper()} packet has two ports",
                "give both, as in udp 203.0.113.7:4000 > me:1434, or say fragment",
            )
    elif has_ports:
        what = "a later fragment" if fragment else f"a {left[0].upper()} packet"
        raise wrong(text, 0, f"{what} has no ports", "leave them out")
    direction, interface = words or ("", "")
    return PacketText(
        text,
        protocol,
        source,
        source_port,
        destination,
        destination_port,
        fragment,
        direction,
        interface,
    )


def to_packet(
    text: PacketText, host: Host, interface_types: Mapping[str, InterfaceType | None]
) -> Packet:
    """The packet as `host` sees it; a type of None is the loopback interface.

    ``me`` becomes an address of the host, of the other side's IP version. Without an interface
    the packet arrives, unless its source is the host's own.
    """
    family = _family(text, host)
    source = _address(text, text.source, family, host)
    destination = _address(text, text.destination, family, host)
    point = Point.ARRIVING
    if text.direction == "out" or (not text.direction and host.owns(family, source)):
        point = Point.SENDING
    interface_type: InterfaceType | None = InterfaceType.LAN
    if text.interface:
        if text.interface not in interface_types:
            raise wrong(
                text.text,
                text.text.rindex(text.interface),
                f"there is no interface {text.interface!r}",
                f"there are: {', '.join(sorted(interface_types)) or 'none'}",
            )
        interface_type = interface_types[text.interface]
    number = text.protocol
    if isinstance(number, IcmpOfFamily):
        number = number.number(family)
    return Packet(
        point,
        family,
        source,
        destination,
        number,
        text.source_port,
        text.destination_port,
        interface_type,
        later_fragment=text.fragment,
    )


def format_packet(packet: Packet) -> str:
    """The packet in words, addresses and ports as they are."""
    source, destination = (
        _format_side(packet.family, address, port)
        for address, port in (
            (packet.source, packet.source_port),
            (packet.destination, packet.destination_port),
        )
    )
    icmp = packet.protocol == (1 if packet.family is Family.IPV4 else 58)
    name = "icmp" if icmp else format_protocol(packet.protocol).lower()
    fragment = " fragment" if packet.later_fragment else ""
    return f"{name} {source} > {destination}{fragment}"


def _format_side(family: Family, address: int, port: int | None) -> str:
    text = format_value(family, address)
    if port is None:
        return text
    return f"[{text}]:{port}" if family is Family.IPV6 else f"{text}:{port}"


def _side(text: str, side: str) -> tuple[Side, int | None]:
    host, port = side, ""
    if side.startswith("["):
        host, _, rest = side[1:].partition("]")
        port = rest.removeprefix(":")
    elif side.count(":") == 1:
        host, _, port = side.partition(":")
    place = text.index(side)
    if port and (not is_number(port) or not 0 <= int(port[:6]) <= 65535):
        raise wrong(text, place, f"{quote(port)} is not a port", "give a number up to 65535")
    number = int(port) if port else None
    if host.casefold() in ("me", "0"):
        return Keyword.ME, number
    for family, value in ((Family.IPV4, ipv4_value(host)), (Family.IPV6, ipv6_value(host))):
        if value is not None:
            return (family, value), number
    raise wrong(
        text, place, f"{quote(host)} is not an IP address", "write an address, or me for this host"
    )


def _family(text: PacketText, host: Host) -> Family:
    families = {side[0] for side in (text.source, text.destination) if isinstance(side, tuple)}
    if len(families) > 1:
        raise wrong(text.text, 0, "the addresses are of two IP versions", "give two of one")
    if families:
        return families.pop()
    return min((family for family, _ in host.addresses), default=Family.IPV4)


def _address(text: PacketText, side: Side, family: Family, host: Host) -> int:
    if isinstance(side, tuple):
        return side[1]
    own = sorted(value for f, value in host.addresses if f is family and not _loopback(f, value))
    if not own:
        raise InvalidInput(
            f"'me' in {quote(text.text)} has no IPv{int(family)} address",
            "give the address itself, or say which are this host's with --me",
        )
    return own[0]


def _loopback(family: Family, value: int) -> bool:
    return value >> 24 == 127 if family is Family.IPV4 else value == 1
