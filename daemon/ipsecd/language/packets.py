"""Owns the text of packets, as ``explain`` takes them; must not know filters.

The form is ``PROTOCOL[/TYPE[/CODE]] SOURCE[:PORT] > DESTINATION[:PORT] [fragment]
[in IFACE | out IFACE] [by SENDER] [opening | reply | established]``, where an address can be
``container:NAME`` and a sender is ``service:NAME`` or ``cgroup:PATH``. A code that is left out
is 0, and a source port that is left out is any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import (
    PROCESSES,
    SELECTORS,
    format_value,
    ipv4_value,
    ipv6_value,
    parse_address,
)
from ipsecd.language.icmp import format_type, parse_protocol_and_message
from ipsecd.language.protocols import format_protocol
from ipsecd.language.quoting import is_number, wrong, wrong_within
from ipsecd.model.addresses import Family, Keyword, Process, Selector, SelectorKind
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import OPENING
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    ICMP_VERSIONS,
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    IcmpOfFamily,
)
from ipsecd.quoting import quote

_WORD = re.compile(r"\S+")
_FORM = "write PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT], as in udp 203.0.113.7:4000 > me:1434"

CONNECTIONS = (OPENING, "reply", "established")
"""What a packet can be to a connection; of the last two the host knows the connection."""

Side = tuple[Family, int] | Keyword | Selector


@dataclass(frozen=True, slots=True)
class PacketText:
    """A packet as it was written.

    ``direction`` is "in" or "out", the packet's direction at ``interface``, or "" if there is none.
    ``sender`` is the local processes that it comes from, if they were named. ``connection`` is one
    of CONNECTIONS, or "" if nothing is said of it.
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
    connection: str = ""

    @property
    def opening(self) -> bool:
        """Whether it belongs to no connection that the host knows, as where nothing is said."""
        return self.connection in ("", OPENING)

    @property
    def any_source_port(self) -> bool:
        """Whether its source port was left out, though it has one."""
        with_ports = self.protocol in PROTOCOLS_WITH_PORTS and not self.fragment
        return with_ports and self.source_port is None


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
    fragment, direction, interface, sender, connection = _conditions(text, more_words[1:])
    if fragment and message:
        what = f"{quote(text)} gives a type of ICMP, and a later fragment has none"
        raise wrong(text, place, what, "leave it out, or leave out fragment")
    _check_ports(text, name, protocol, (source_port, destination_port), fragment=fragment)
    packet = PacketText(
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
        connection,
    )
    if packet.any_source_port:
        _check_brackets(text, *words[1])
    return packet


def format_packet(
    packet: Packet, *, any_source_port: bool = False, host: Host | None = None
) -> str:
    """The packet in words, addresses and ports as they are, but for any source port none.

    With a `host` it is what ``seen.to_packet`` makes the same packet of: with the link and one of
    the senders that it has, and ``me`` for the address of the host that this word stands for.
    """
    has_ports = packet.destination_port is not None
    own = own_addresses(host).get(packet.family) if host else None
    source_port = None if any_source_port else packet.source_port
    source = _format_side(packet.family, packet.source, source_port, has_ports, own)
    # Where both sides were me, nothing would tell the IP version.
    own = None if packet.source == own else own
    port = packet.destination_port
    destination = _format_side(packet.family, packet.destination, port, has_ports, own)
    icmp = packet.protocol == (1 if packet.family is Family.IPV4 else 58)
    name = "icmp" if icmp else format_protocol(packet.protocol).lower()
    if packet.icmp_type is not None:
        message = IcmpMessage(packet.icmp_type, packet.icmp_type).within(
            ICMP_VERSIONS[packet.protocol]
        )
        code = f"/{packet.icmp_code}" if packet.icmp_code else ""
        name += f"/{format_type(packet.protocol, message)}{code}"
    fragment = " fragment" if packet.later_fragment else ""
    place = ""
    if host and packet.interface:
        place = f" {'in' if packet.point is Point.ARRIVING else 'out'} {packet.interface}"
    # The longest path is that of a group which is in the others.
    senders = sorted(map(str, packet.processes), key=len) if host else []
    sender = f" by {senders[-1]}" if senders else ""
    connection = "" if packet.opening else " established"
    return f"{name} {source} > {destination}{fragment}{place}{sender}{connection}"


def own_addresses(host: Host) -> dict[Family, int]:
    """The address of each IP version that ``me`` stands for: the least that is not loopback."""
    addresses = sorted(host.addresses, reverse=True)
    return {family: value for family, value in addresses if not _loopback(family, value)}


def _loopback(family: Family, value: int) -> bool:
    return value >> 24 == 127 if family is Family.IPV4 else value == 1


def _format_side(
    family: Family, address: int, port: int | None, brackets: bool, own: int | None
) -> str:
    if address == own:
        text = "me"
    else:
        text = format_value(family, address)
        text = f"[{text}]" if brackets and family is Family.IPV6 else text
    return text if port is None else f"{text}:{port}"


def _words(text: str, start: int) -> list[tuple[str, int]]:
    """The words of `text` with their offsets; `text` itself begins at offset `start`."""
    return [(match.group(), start + match.start()) for match in _WORD.finditer(text)]


def _conditions(
    text: str, words: list[tuple[str, int]]
) -> tuple[bool, str, str, Process | None, str]:
    """Read what follows the addresses: fragment or not, direction, link, sender, connection."""
    fragment = bool(words) and words[0][0] == "fragment"
    words_left = words[1:] if fragment else words
    direction, interface, sender, connection = "", "", None, ""
    if len(words_left) >= 2 and words_left[0][0] in ("in", "out"):
        direction, interface = words_left[0][0], words_left[1][0]
        words_left = words_left[2:]
    if len(words_left) >= 2 and words_left[0][0] == "by":
        sender = _sender(text, *words_left[1])
        words_left = words_left[2:]
    if len(words_left) == 1 and words_left[0][0] in CONNECTIONS:
        connection = words_left[0][0]
        words_left = []
    if words_left:
        said = " ".join(word for word, _ in words_left)
        raise wrong(
            text,
            words_left[0][1],
            f"{quote(said)} is not understood",
            "after the addresses there may be: fragment, then in IFACE or out IFACE, then "
            "by service:NAME.service or by cgroup:/PATH, then opening, reply or established",
        )
    return fragment, direction, interface, sender, connection


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
        if ports[1] is None:
            raise wrong(
                text,
                0,
                f"{quote(text)} leaves the destination's port out, and protocol {name} has ports",
                "give it, as in tcp 203.0.113.7 > me:22, or say fragment",
            )
    elif ports != (None, None):
        what = "a later fragment" if fragment else f"a packet of protocol {name}"
        raise wrong(text, 0, f"{quote(text)} gives ports, and {what} has none", "leave them out")


def _check_brackets(text: str, side: str, place: int) -> None:
    """Refuse an IPv6 address that may have been meant as an address and a port."""
    address, _, port = side.rpartition(":")
    if ipv6_value(address) is not None and is_number(port):
        raise wrong(
            text,
            place,
            f"{quote(side)} can be an address, or an address with a port",
            f"write [{address}]:{port} with the port, or [{side}] for any port",
        )


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
