"""Owns the normal form: which table a filter's matches go into, and with which keys.

A table holds matches that look at the same fields of a packet in the same way, so one look-up of
one key decides all of them. Invariants:

1. All entries of a table have one rank, and at most one of them matches a packet: they differ
   in the key, which is made of exactly the fields that the table looks at.
2. A key is laid out as a kernel concatenation: every field in network byte order, padded to four
   bytes, in the order protocol, source port, destination port, source, destination.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from ipsecd.errors import LimitExceeded, Refused
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.precedence import ANY_PORT_WIDTH, Rank, rank
from ipsecd.model.values import (
    IPV6_EXTENSION_HEADERS,
    Action,
    Endpoint,
    Family,
    Filter,
    HostName,
    IcmpOfFamily,
    InForce,
    Keyword,
    Network,
    PortRange,
    Process,
    Selector,
)
from ipsecd.quoting import quote

MAX_PORT_PAIRS = 100_000
"""Combinations of source and destination ports in one filter."""

ME = -1
"""Stands in an address field of a shape for this host's own addresses."""


class Ports(NamedTuple):
    """How a table looks at one port: any, in the key (first and last are 0), or in one range."""

    kind: str
    first: int = 0
    last: int = 0

    @property
    def width(self) -> int:
        """How many ports one entry covers."""
        return {"any": ANY_PORT_WIDTH, "exact": 1}.get(self.kind, self.last - self.first + 1)


ANY_PORT = Ports("any")
EXACT_PORT = Ports("exact")


class TableId(NamedTuple):
    """What a table is: all that its entries have in common.

    ``source`` and ``destination`` are prefix lengths in bits; 0 is any address, ``ME`` is this
    host. ``protocol`` says whether the key begins with one. ``interface_type`` is "" for any, and
    ``process`` for any sender: else it is the text of the endpoint.
    """

    family: Family
    volatile: bool
    action: Action
    source: int
    destination: int
    protocol: bool
    source_ports: Ports
    destination_ports: Ports
    interface_type: str
    process: str = ""

    @property
    def rank(self) -> Rank:
        """The rank of every entry of the table, but where packets leave (see ``order_at``)."""
        return self._rank_at(None)

    def _rank_at(self, point: Point | None) -> Rank:
        bits = self.family.bits
        return rank(
            source_bits=bits if self.source == ME else self.source,
            destination_bits=bits if self.destination == ME else self.destination,
            protocol_given=self.protocol,
            destination_width=self.destination_ports.width,
            source_width=self.source_ports.width,
            interface_given=bool(self.interface_type),
            process_given=bool(self.process),
            volatile=self.volatile,
            action=self.action,
            before_translation=point is Point.LEAVING and self.source != ME,
        )

    @property
    def points(self) -> frozenset[Point]:
        """Where packets are looked up in the table.

        What names ``me`` has one direction. A permit that does not is looked at once more when a
        packet leaves under this host's address, so that it keeps its rank against ``me``.
        """
        if self.process:
            return frozenset({Point.SENDING})
        if self.destination == ME:
            return frozenset() if self.source == ME else frozenset({Point.ARRIVING})
        if self.source == ME:
            return frozenset({Point.SENDING, Point.LEAVING})
        if self.action is Action.PERMIT:
            return frozenset(Point)
        return frozenset({Point.ARRIVING, Point.SENDING})

    @property
    def needs_ports(self) -> bool:
        """Whether a packet without ports can match nothing here."""
        return self.source_ports != ANY_PORT or self.destination_ports != ANY_PORT

    @property
    def key_width(self) -> int:
        """The length of a key in bytes; 0 where the table looks at no field."""
        address = self.family.bits // 8
        return (
            4 * self.protocol
            + 4 * (self.source_ports == EXACT_PORT)
            + 4 * (self.destination_ports == EXACT_PORT)
            + address * (self.source > 0)
            + address * (self.destination > 0)
        )

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts tables: the greatest rank first, and one order among equal ranks."""
        return self.order_at(None)

    def order_at(self, point: Point | None) -> tuple[object, ...]:
        """The same, where packets are looked at `point`."""
        return (
            tuple(-part for part in self._rank_at(point)),
            self.family.value,
            self.source,
            self.destination,
            self.source_ports,
            self.destination_ports,
            self.interface_type,
            self.process,
        )

    def key_of(self, packet: Packet, host: Host) -> bytes | None:
        """The key under which `packet` would stand in the table, None if it cannot."""
        if packet.family is not self.family or packet.point not in self.points:
            return None
        if self.interface_type and (
            packet.interface_type is None or packet.interface_type.value != self.interface_type
        ):
            return None
        if self.process and self.process not in {str(one) for one in packet.processes}:
            return None
        seen = packet
        if packet.point is Point.LEAVING and self.source != ME:
            seen = packet.arrived or packet
        if self.source == ME and not host.owns(seen.family, seen.source):
            return None
        if self.destination == ME and not host.receives(seen.family, seen.destination):
            return None
        for ports, port in (
            (self.source_ports, seen.source_port),
            (self.destination_ports, seen.destination_port),
        ):
            if ports != ANY_PORT and port is None:
                return None
            if ports.kind == "range" and not ports.first <= (port or 0) <= ports.last:
                return None
        return self.key(
            seen.protocol,
            seen.source_port or 0,
            seen.destination_port or 0,
            seen.source,
            seen.destination,
        )

    def key(
        self, protocol: int, source_port: int, destination_port: int, source: int, destination: int
    ) -> bytes:
        """The key of one entry; addresses are masked to the table's prefix lengths."""
        parts = []
        if self.protocol:
            parts.append(bytes((protocol, 0, 0, 0)))
        if self.source_ports == EXACT_PORT:
            parts.append(source_port.to_bytes(2, "big") + b"\0\0")
        if self.destination_ports == EXACT_PORT:
            parts.append(destination_port.to_bytes(2, "big") + b"\0\0")
        bits = self.family.bits
        for length, address in ((self.source, source), (self.destination, destination)):
            if length > 0:
                dropped = bits - length
                parts.append((address >> dropped << dropped).to_bytes(bits // 8, "big"))
        return b"".join(parts)


class Row(NamedTuple):
    """One entry: the table it belongs to, its key, and where it was written."""

    table: TableId
    key: bytes
    one: InForce


def rows_of(in_force: Iterable[InForce]) -> Iterator[Row]:
    """The entries that stand for the filters `in_force`, in no particular order.

    Expands mirroring, IP versions, DNS names, lists of ports and ``ICMP``. A filter from ``me``
    to ``me`` has no entries: such packets never leave the loopback interface. Raises ``Refused``
    for a DNS name that has not been resolved and ``LimitExceeded`` for
    lists of ports on both sides that are too long together.
    """
    for one in in_force:
        flt = one.filter
        _check_size(flt)
        ways = [(flt.source, flt.destination)]
        if flt.mirrored:
            ways.append((flt.destination, flt.source))
        for source, destination in ways:
            for family in sorted(flt.families):
                yield from _one_way(one, family, source, destination)


def _check_size(flt: Filter) -> None:
    """Raise ``LimitExceeded`` for lists whose combinations would fill the memory."""
    ports = max(1, len(flt.source.ports)) * max(1, len(flt.destination.ports))
    if ports > MAX_PORT_PAIRS:
        raise LimitExceeded(
            f"the filter's lists of ports make {ports} combinations, more than {MAX_PORT_PAIRS}",
            "name ports on one side only, or use ranges",
        )


def _one_way(
    one: InForce, family: Family, source: Endpoint, destination: Endpoint
) -> Iterator[Row]:
    process = source.address if isinstance(source.address, Process) else None
    if destination.address is Keyword.ME and (process or source.address is Keyword.ME):
        return
    interface = one.interface_type.value if one.interface_type else ""
    volatile = one.origin.volatile
    source_networks = _networks(source, family)
    destination_networks = _networks(destination, family)
    for protocol in one.filter.protocols:
        number = protocol.number(family) if isinstance(protocol, IcmpOfFamily) else protocol
        if family is Family.IPV6 and protocol in IPV6_EXTENSION_HEADERS:
            continue
        for sports in source.ports or (None,):
            for dports in destination.ports or (None,):
                for source_length, source_address in source_networks:
                    for length, address in destination_networks:
                        table = _table_id(
                            family,
                            volatile,
                            one.action,
                            source_length,
                            length,
                            number is not None,
                            sports,
                            dports,
                            interface,
                            str(process) if process else "",
                        )
                        key = table.key(
                            number or 0,
                            sports.first if sports else 0,
                            dports.first if dports else 0,
                            source_address,
                            address,
                        )
                        yield Row(table, key, one)


@lru_cache(maxsize=4096)
def _table_id(
    family: Family,
    volatile: bool,
    action: Action,
    source: int,
    destination: int,
    protocol: bool,
    source_ports: PortRange | None,
    destination_ports: PortRange | None,
    interface_type: str,
    process: str,
) -> TableId:
    # Cached because a list of a million addresses asks for the same few tables a million times.
    return TableId(
        family,
        volatile,
        action,
        source,
        destination,
        protocol,
        _ports(source_ports),
        _ports(destination_ports),
        interface_type,
        process,
    )


def _ports(ports: PortRange | None) -> Ports:
    if ports is None:
        return ANY_PORT
    if ports.width == 1:
        return EXACT_PORT
    return Ports("range", ports.first, ports.last)


def _networks(endpoint: Endpoint, family: Family) -> list[tuple[int, int]]:
    """The endpoint's addresses of one family as pairs of prefix length (or ``ME``) and address."""
    address = endpoint.address
    if address is Keyword.ME or isinstance(address, Process):
        return [(ME, 0)]
    if address is Keyword.ANY:
        return [(0, 0)]
    if isinstance(address, HostName):
        if not address.addresses:
            raise Refused(
                f"DNS name {quote(address.name)} has not been resolved",
                "resolve it, or use an address",
            )
        return [(n.length, n.address) for n in address.addresses if n.family is family]
    if isinstance(address, Selector):
        return [(n.length, n.address) for n in address.addresses if n.family is family]
    assert isinstance(address, Network)
    return [(address.length, address.address)] if address.family is family else []
