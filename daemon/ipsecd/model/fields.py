"""Owns the match fields of filters, one row for each; must not know who looks them up, nor how.

Whatever compiles, ranks, stores or renders a filter goes over these rows; `decide`, which all of
that is tested against, reads filters by itself. Invariants:

1. The rows are in the order in which tables of equal rank are sorted, and in the order of what
   a table looks at.
2. Fields that share a place in keys are of different protocols, so no table looks at both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from ipsecd.errors import Refused
from ipsecd.model.addresses import (
    Family,
    HostName,
    Keyword,
    ListName,
    Network,
    Process,
    Selector,
)
from ipsecd.model.kinds import OPENING
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    IPV6_EXTENSION_HEADERS,
    Endpoint,
    IcmpOfFamily,
    InForce,
    InterfaceType,
    LinkName,
)
from ipsecd.quoting import quote

ME = -1
"""Stands in place of a prefix length for this host's own addresses."""


class Listed(NamedTuple):
    """Stands in place of a prefix length for the entries of that length that a list has."""

    name: str
    length: int


Prefix = int | Listed


class Kind(Enum):
    """How a field can be looked at, and so how narrow that is."""

    PREFIX = "prefix"
    """An address by its first bits, which may be in a list, or ``ME``: as narrow as these are
    many."""
    NUMBER = "number"
    """Given or not."""
    RANGE = "range"
    """16 bits, exactly or in a range: the fewer numbers, the narrower."""
    WORD = "word"
    """What a packet is found to be by other means than its bytes: given or not."""


class Criterion(Enum):
    """What precedence compares; fields of one criterion count together (see ``precedence``)."""

    ADDRESSES = "addresses"
    PROTOCOL = "protocol"
    DESTINATION_PORTS = "destination ports"
    SOURCE_PORTS = "source ports"
    INTERFACE = "interface"
    SENDER = "sender"
    CONNECTION = "connection"


class Place(IntEnum):
    """Where in a key a field lies: keys hold what they hold in this order."""

    PROTOCOL = 0
    SOURCE_PORT = 1
    DESTINATION_PORT = 2
    SOURCE = 3
    DESTINATION = 4


class Header(Enum):
    """The header of a packet that a field is read from."""

    NETWORK = "network"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a field begins in a packet, in bytes from the beginning of a header."""

    header: Header
    ipv4: int
    ipv6: int

    def offset(self, family: Family) -> int:
        """The offset in packets of one IP version."""
        return self.ipv4 if family is Family.IPV4 else self.ipv6


class Way(NamedTuple):
    """One direction of one filter in force, for one IP version."""

    filter_in_force: InForce
    family: Family
    source: Endpoint
    destination: Endpoint


@dataclass(frozen=True, slots=True)
class Field:
    """One match field.

    ``wanted`` gives all that a filter asks of it, one after the other: for a PREFIX pairs of length
    (0: any, or ``ME``, or ``Listed``) and address, for a NUMBER numbers or None, for a RANGE pairs
    of first and last or None, for a WORD words or "". ``seen`` gives what a packet has, None for
    nothing; for a WORD, all the words that are true of it. ``word`` names the field in names that
    people read. ``width`` is in bytes, 0 for a whole address or no bytes. ``mine`` answers for
    ``ME``, and ``canonical`` gives a stored word back and raises some exception for any other.
    ``weight`` is how much a WORD counts among the fields of its criterion.
    """

    name: str
    kind: Kind
    word: str
    criterion: Criterion
    wanted: Callable[[Way], Sequence[Any]]
    seen: Callable[[Packet], Any]
    width: int = 0
    place: Place | None = None
    location: Location | None = None
    points: frozenset[Point] = frozenset(Point)
    mine: Callable[[Host, Packet], bool] | None = None
    canonical: Callable[[str], str] = str
    weight: int = 1

    def bytes_in(self, family: Family) -> int:
        """How many bytes a value has in packets of `family`."""
        return family.bits // 8 if self.kind is Kind.PREFIX else self.width


def _networks(endpoint: Endpoint, family: Family) -> Sequence[tuple[Prefix, int]]:
    """The endpoint's addresses of one family as pairs of prefix length (or ``ME``) and address.

    For a list, the addresses are nowhere in what is compiled, and 0 stands for them.
    """
    address = endpoint.address
    if isinstance(address, Network):
        return [(address.length, address.address)] if address.family is family else []
    if address is Keyword.ANY:
        return [(0, 0)]
    if isinstance(address, HostName | Selector):
        if isinstance(address, HostName) and not address.addresses:
            raise Refused(
                f"DNS name {quote(address.name)} has not been resolved",
                "resolve it, or use an address",
            )
        return [(n.length, n.address) for n in address.addresses if n.family is family]
    if isinstance(address, ListName):
        return [(Listed(address.name, length), 0) for of, length in address.lengths if of is family]
    assert address is Keyword.ME or isinstance(address, Process)
    return [(ME, 0)]


def _protocols(way: Way) -> Sequence[int | None]:
    return [
        protocol.number(way.family) if isinstance(protocol, IcmpOfFamily) else protocol
        for protocol in way.filter_in_force.filter.protocols
        if way.family is Family.IPV4 or protocol not in IPV6_EXTENSION_HEADERS
    ]


def _ports(endpoint: Endpoint) -> Sequence[tuple[int, int] | None]:
    return [(ports.first, ports.last) for ports in endpoint.ports] or [None]


def _messages(way: Way) -> Sequence[tuple[int, int] | None]:
    """The type and code of ICMP as 16 bits; all codes of a type are a range."""
    message = way.filter_in_force.filter.message
    number = message.number(way.family) if message else None
    if message is None or number is None:
        return [None]
    codes = (0, 255) if message.code is None else (message.code, message.code)
    return [(number << 8 | codes[0], number << 8 | codes[1])]


def _interface_types(way: Way) -> Sequence[str]:
    interface_type = way.filter_in_force.conditions.interface_type
    return [interface_type.value if interface_type else ""]


def _interface_names(way: Way) -> Sequence[str]:
    name = way.filter_in_force.conditions.interface_name
    return [name.pattern if name else ""]


def _names_of_link(packet: Packet) -> Iterator[str]:
    """All that can be written for the link of the packet: its name, and every beginning of it."""
    name = packet.interface
    if name:
        yield name
        yield from (f"{name[:length]}*" for length in range(len(name) + 1))


def _senders(way: Way) -> Sequence[str]:
    address = way.source.address
    return [str(address) if isinstance(address, Process) else ""]


FIELDS = (
    Field(
        "source",
        Kind.PREFIX,
        "from",
        Criterion.ADDRESSES,
        wanted=lambda way: _networks(way.source, way.family),
        seen=lambda packet: packet.source,
        place=Place.SOURCE,
        location=Location(Header.NETWORK, 12, 8),
        mine=Host.sends,
    ),
    Field(
        "destination",
        Kind.PREFIX,
        "to",
        Criterion.ADDRESSES,
        wanted=lambda way: _networks(way.destination, way.family),
        seen=lambda packet: packet.destination,
        place=Place.DESTINATION,
        location=Location(Header.NETWORK, 16, 24),
        mine=lambda host, packet: host.receives(packet.family, packet.destination),
    ),
    Field(
        "protocol",
        Kind.NUMBER,
        "proto",
        Criterion.PROTOCOL,
        wanted=_protocols,
        seen=lambda packet: packet.protocol,
        width=1,
        place=Place.PROTOCOL,
    ),
    Field(
        "source_ports",
        Kind.RANGE,
        "sport",
        Criterion.SOURCE_PORTS,
        wanted=lambda way: _ports(way.source),
        seen=lambda packet: packet.source_port,
        width=2,
        place=Place.SOURCE_PORT,
        location=Location(Header.TRANSPORT, 0, 0),
    ),
    Field(
        "destination_ports",
        Kind.RANGE,
        "dport",
        Criterion.DESTINATION_PORTS,
        wanted=lambda way: _ports(way.destination),
        seen=lambda packet: packet.destination_port,
        width=2,
        place=Place.DESTINATION_PORT,
        location=Location(Header.TRANSPORT, 2, 2),
    ),
    Field(
        "message",
        Kind.RANGE,
        "icmp",
        Criterion.DESTINATION_PORTS,
        wanted=_messages,
        seen=lambda packet: packet.message,
        width=2,
        place=Place.DESTINATION_PORT,
        location=Location(Header.TRANSPORT, 0, 0),
    ),
    Field(
        "interface_type",
        Kind.WORD,
        "on",
        Criterion.INTERFACE,
        wanted=_interface_types,
        seen=lambda packet: {packet.interface_type.value} if packet.interface_type else (),
        canonical=lambda word: InterfaceType(word).value,
    ),
    Field(
        "interface_name",
        Kind.WORD,
        "link",
        Criterion.INTERFACE,
        wanted=_interface_names,
        seen=lambda packet: set(_names_of_link(packet)),
        canonical=lambda word: LinkName(word).pattern,
        weight=2,
    ),
    Field(
        "process",
        Kind.WORD,
        "sender",
        Criterion.SENDER,
        wanted=_senders,
        seen=lambda packet: {str(process) for process in packet.processes},
        points=frozenset({Point.SENDING}),
        canonical=lambda word: str(Process(*word.split(":", 1))),
    ),
    Field(
        "opening",
        Kind.WORD,
        "when",
        Criterion.CONNECTION,
        wanted=lambda way: [way.filter_in_force.conditions.when or ""],
        seen=lambda packet: {OPENING} if packet.opening else (),
        canonical={OPENING: OPENING}.__getitem__,
    ),
)

BY_NAME = {field.name: field for field in FIELDS}
