"""Owns the text of packets, as ``explain`` takes them; must not know filters.

The form is ``PROTOCOL[/TYPE[/CODE]] SOURCE[:PORT] > DESTINATION[:PORT] [fragment]
[in IFACE | out IFACE] [by SENDER]``, where an address can be ``container:NAME`` and a sender is
``service:NAME`` or ``cgroup:PATH``. A code that is left out is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import (
    PROCESSES,
    SELECTORS,
    format_address,
    format_value,
    ipv4_value,
    ipv6_value,
    parse_address,
)
from ipsecd.language.icmp import format_type, parse_protocol_and_message
from ipsecd.language.protocols import format_protocol
from ipsecd.language.quoting import is_number, wrong, wrong_within
from ipsecd.model.addresses import Family, Keyword, Network, Process, Selector, SelectorKind
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    ICMP_VERSIONS,
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    IcmpOfFamily,
    InterfaceType,
)
from ipsecd.quoting import quote

_WORD = re.compile(r"\S+")
_FORM = "write PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT], as in udp 203.0.113.7:4000 > me:1434"

Side = tuple[Family, int] | Keyword | Selector
Resolve = Callable[[Selector], tuple[Network, ...]]


@dataclass(frozen=True, slots=True)
class PacketText:
    """A packet as it was written.

    ``direction`` is "in" or "out", the packet's direction at ``interface``, or "" if there is none.
    ``sender`` is the local processes that it comes from, if they were named.
    """

    text: str
    protocol: int | IcmpOfFamily
    source: Side
    source_port: int | None
    destination: Side
    destination_port: int | None
    fragment: bool = False
    direction: str = ""
    interface: str = ""
    sender: Process | None = None
    message: IcmpMessage | None = None


def parse_packet(text: str) -> PacketText:
    """The packet that `text` describes; raises ``InvalidInput`` with a position in `text`."""
    head, arrow, tail = text.partition(">")
    words, more_words = _words(head, 0), _words(tail, len(head) + 1)
    if not arrow or len(words) != 2 or not more_words:
        raise wrong(text, 0, f"{quote(text)} is not a packet", _FORM)
    name, place = words[0]
    try:
        protocol, message = parse_protocol_and_message(name)
    except InvalidInput as error:
        raise wrong_within(error, text, place) from error
    source, source_port = _side(text, *words[1])
    destination, destination_port = _side(text, *more_words[0])
    fragment, direction, interface, sender = _conditions(text, more_words[1:])
    if fragment and message:
        what = f"{quote(text)} gives a type of ICMP, and a later fragment has none"
        raise wrong(text, place, what, "leave it out, or leave out fragment")
    _check_ports(text, name, protocol, (source_port, destination_port), fragment=fragment)
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
        sender,
        message,
    )


def _nobody(_: Selector) -> tuple[Network, ...]:
    return ()


def to_packet(
    text: PacketText,
    host: Host,
    interface_types: Mapping[str, InterfaceType | None],
    resolve: Resolve = _nobody,
) -> Packet:
    """The packet as `host` sees it; a type of None is the loopback interface.

    ``me`` becomes an address of the host, and a container one that `resolve` gives, of the other
    side's IP version. Without an interface the packet arrives, unless its source is the host's own.
    """
    sources = _candidates(text, text.source, host, resolve)
    destinations = _candidates(text, text.destination, host, resolve)
    family = _family(text, sources, destinations)
    source, destination = sources[family], destinations[family]
    point = Point.ARRIVING
    if text.direction == "out" or (not text.direction and host.owns(family, source)):
        point = Point.SENDING
    if text.sender and point is not Point.SENDING:
        raise wrong(
            text.text,
            text.text.rindex(str(text.sender)),
            "local processes send under this host's address, and this packet arrives",
            "write me as its source",
        )
    interface_type: InterfaceType | None = InterfaceType.LAN
    if text.interface:
        if text.interface not in interface_types:
            raise wrong(
                text.text,
                text.text.rindex(text.interface),
                f"there is no interface {quote(text.interface)}",
                f"there are: {', '.join(sorted(interface_types)) or 'none'}",
            )
        interface_type = interface_types[text.interface]
    number = text.protocol
    if isinstance(number, IcmpOfFamily):
        number = number.number(family)
    message = text.message
    if message and (number not in ICMP_VERSIONS or family not in ICMP_VERSIONS[number]):
        what = f"protocol {number} is not ICMP in IPv{int(family)}"
        raise wrong(text.text, 0, what, "write icmp, which is that of either IP version")
    icmp_type = message.number(family) if message else None
    if message and icmp_type is None:
        what = f"{quote(text.text)} has a type of ICMP that IPv{int(family)} does not have"
        raise wrong(text.text, 0, what, "give a number, or a name that it has")
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
        icmp_type=icmp_type,
        icmp_code=(message.code if message else None) or 0,
        processes=frozenset({text.sender} if text.sender else ()),
    )


def assumed_types(interface: str) -> dict[str, InterfaceType | None]:
    """What kind of link `interface` is, where only its name is known; for ``to_packet``."""
    if interface == "lo":
        return {interface: None}
    dialup = interface.startswith(("ppp", "ww", "dialup"))
    return {interface: InterfaceType.DIALUP if dialup else InterfaceType.LAN}


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
    if packet.icmp_type is not None:
        message = IcmpMessage(packet.icmp_type, packet.icmp_type).within(
            ICMP_VERSIONS[packet.protocol]
        )
        code = f"/{packet.icmp_code}" if packet.icmp_code else ""
        name += f"/{format_type(packet.protocol, message)}{code}"
    fragment = " fragment" if packet.later_fragment else ""
    return f"{name} {source} > {destination}{fragment}"


def _format_side(family: Family, address: int, port: int | None) -> str:
    text = format_value(family, address)
    if port is None:
        return text
    return f"[{text}]:{port}" if family is Family.IPV6 else f"{text}:{port}"


def _words(text: str, start: int) -> list[tuple[str, int]]:
    """The words of `text` with their offsets; `text` itself begins at offset `start`."""
    return [(match.group(), start + match.start()) for match in _WORD.finditer(text)]


def _conditions(text: str, words: list[tuple[str, int]]) -> tuple[bool, str, str, Process | None]:
    """Read what follows the addresses: fragment or not, direction, interface and sender."""
    fragment = bool(words) and words[0][0] == "fragment"
    words_left = words[1:] if fragment else words
    direction, interface, sender = "", "", None
    if len(words_left) >= 2 and words_left[0][0] in ("in", "out"):
        direction, interface = words_left[0][0], words_left[1][0]
        words_left = words_left[2:]
    if len(words_left) == 2 and words_left[0][0] == "by":
        sender = _sender(text, *words_left[1])
        words_left = []
    if words_left:
        said = " ".join(word for word, _ in words_left)
        raise wrong(
            text,
            words_left[0][1],
            f"{quote(said)} is not understood",
            "after the addresses there may be: fragment, then in IFACE or out IFACE, then "
            "by service:NAME.service or by cgroup:/PATH",
        )
    return fragment, direction, interface, sender


def _sender(text: str, word: str, place: int) -> Process:
    try:
        if word.partition(":")[0] in PROCESSES and isinstance(
            sender := parse_address(word), Process
        ):
            return sender
    except InvalidInput as error:
        raise wrong(text, place, error.message, error.hint) from error
    raise wrong(
        text,
        place,
        f"{quote(word)} names no local processes",
        "write by service:NAME.service or by cgroup:/PATH",
    )


def _check_ports(
    text: str,
    name: str,
    protocol: int | IcmpOfFamily,
    ports: tuple[int | None, int | None],
    *,
    fragment: bool,
) -> None:
    if protocol in PROTOCOLS_WITH_PORTS and not fragment:
        if None in ports:
            raise wrong(
                text,
                0,
                f"{quote(text)} leaves a port out, and a packet of protocol {name} has two",
                "give both, as in udp 203.0.113.7:4000 > me:1434, or say fragment",
            )
    elif ports != (None, None):
        what = "a later fragment" if fragment else f"a packet of protocol {name}"
        raise wrong(text, 0, f"{quote(text)} gives ports, and {what} has none", "leave them out")


def _side(text: str, side: str, place: int) -> tuple[Side, int | None]:
    """The address and port that `side` names, which is at offset `place` of `text`."""
    colon, port = "", ""
    if side.partition(":")[0] in SELECTORS:
        return _container(text, side, place)
    if side.startswith("["):
        host, close, colon_and_port = side[1:].partition("]")
        if (
            not close
            or (colon_and_port and not colon_and_port.startswith(":"))
            or ipv6_value(host) is None
        ):
            raise wrong(
                text,
                place,
                f"{quote(side)} is not an IPv6 address in brackets",
                "write [2001:db8::1]:443, or 2001:db8::1 without a port",
            )
        colon, port = colon_and_port[:1], colon_and_port[1:]
    else:
        host = side
        if side.count(":") == 1:
            host, colon, port = side.partition(":")
    number = _port(text, port, place + len(side) - len(port)) if colon else None
    if host.casefold() in ("me", "0"):
        return Keyword.ME, number
    for family, value in ((Family.IPV4, ipv4_value(host)), (Family.IPV6, ipv6_value(host))):
        if value is not None:
            return (family, value), number
    raise wrong(
        text, place, f"{quote(host)} is not an IP address", "write an address, or me for this host"
    )


def _container(text: str, side: str, place: int) -> tuple[Side, int | None]:
    """A container and its port; networks and labels are refused, which can be many addresses."""
    kind, _, name_and_port = side.partition(":")
    name, colon, port = name_and_port.partition(":")
    try:
        address = parse_address(f"{kind}:{name}")
    except InvalidInput as error:
        raise wrong(text, place, error.message, error.hint) from error
    if not isinstance(address, Selector) or address.kind is not SelectorKind.CONTAINER:
        raise wrong(
            text,
            place,
            f"{quote(side)} is more than one address",
            "name one container, as in container:web or container:web@front, or an address",
        )
    number = _port(text, port, place + len(side) - len(port)) if colon else None
    return address, number


def _port(text: str, port: str, place: int) -> int:
    if not is_number(port) or len(port) > 5 or int(port) > MAX_PORT:
        raise wrong(
            text, place, f"{quote(port)} is not a port", f"give a number from 0 to {MAX_PORT}"
        )
    return int(port)


def _candidates(text: PacketText, side: Side, host: Host, resolve: Resolve) -> dict[Family, int]:
    """The address that one side stands for, in each IP version that it has."""
    if isinstance(side, tuple):
        return {side[0]: side[1]}
    if isinstance(side, Selector):
        addresses = {network.family: network.address for network in reversed(resolve(side))}
        if not addresses:
            name = format_address(side)
            raise wrong(
                text.text,
                text.text.index(name),
                f"{name} has no address that is known here",
                "the containers that are known: ipsecctl show containers",
            )
        return addresses
    own_addresses = sorted(host.addresses, reverse=True)
    return dict(pair for pair in own_addresses if not _loopback(*pair))


def _family(text: PacketText, source: dict[Family, int], destination: dict[Family, int]) -> Family:
    """The one IP version of both sides; IPv4 where both are possible."""
    common = source.keys() & destination.keys()
    if common:
        return min(common)
    for side, other_addresses in ((text.source, destination), (text.destination, source)):
        if side is Keyword.ME:
            version = int(min(other_addresses, default=Family.IPV4))
            raise wrong(
                text.text,
                0,
                f"'me' in {quote(text.text)} has no IPv{version} address",
                "give the address itself, or say which are this host's with --me",
            )
    raise wrong(
        text.text,
        0,
        f"{quote(text.text)} goes from one IP version to the other",
        "give two addresses of one version",
    )


def _loopback(family: Family, value: int) -> bool:
    return value >> 24 == 127 if family is Family.IPV4 else value == 1
