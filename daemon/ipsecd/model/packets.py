"""Owns what filters ask of a packet and of the host that sees it; must not know bytes.

A packet is described at one point where it is looked at. A forwarded packet is looked at twice:
when it arrives, and, if it then leaves under an address of this host, when it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family, Network, Process
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.lists import AddressList


class Point(Enum):
    """Where a packet is looked at."""

    # The hash of an Enum is a Python function, and every look for a table takes it.
    __hash__ = object.__hash__

    ARRIVING = "arriving"
    """On entry, before connection tracking and before any address translation."""
    SENDING = "sending"
    """On its way out, made by this host itself."""
    LEAVING = "leaving"
    """Forwarded, on its way out, after source translation; only if its source is then ours."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet at one point.

    Addresses are integers in host order. Ports are None if the protocol has none, and in a later
    fragment. The same goes for the type of ICMP; ``icmp_code`` means nothing then. If the datagram
    of a later fragment of IPv6 begins with an extension header, the number of that header is its
    protocol, and no filter for a protocol matches it (RFC 8200, section 4.5). ``interface_type`` is
    that of the link it came in by (ARRIVING) or goes out by, None for the loopback interface.
    ``parsed`` is False when its headers end too early or are too many, so that no filter can be
    applied. For a LEAVING packet, ``arrived`` is the same packet as it was when it arrived; None if
    that is not known or was no different. For a packet that this host sends, ``processes`` are
    the units and control groups in filters that its sender belongs to. ``interface`` is the name
    of the link, "" if it is not known. ``opening`` says that the packet belongs to no connection
    which this host knows: it is neither part of one nor about one.
    """

    point: Point
    family: Family
    source: int
    destination: int
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    interface_type: InterfaceType | None = InterfaceType.LAN
    later_fragment: bool = False
    icmp_type: int | None = None
    icmp_code: int = 0
    hop_limit: int = 64
    parsed: bool = True
    interface: str = ""
    opening: bool = True
    arrived: Packet | None = None
    processes: frozenset[Process] = frozenset()

    def __post_init__(self) -> None:
        if self.later_fragment and (self.source_port, self.destination_port) != (None, None):
            raise InvalidInput(
                "a later fragment has no ports", "leave the ports out, or leave out 'fragment'"
            )
        if self.later_fragment and self.icmp_type is not None:
            raise InvalidInput(
                "a later fragment has no type of ICMP", "leave it out, or leave out 'fragment'"
            )
        if (self.source_port is None) != (self.destination_port is None):
            raise InvalidInput("a packet has both ports or none")

    @property
    def message(self) -> int | None:
        """Type and code of ICMP as the 16 bits that they are in the packet."""
        return None if self.icmp_type is None else self.icmp_type << 8 | self.icmp_code

    def leaving(self, host: Host) -> Packet | None:
        """This arriving packet as it leaves when it is forwarded under an address of `host`.

        None if it is not to be forwarded, or if the host has no address of its IP version. Of
        several addresses the least is taken: filters ask only whether it is the host's.
        """
        own_addresses = (value for family, value in host.addresses if family is self.family)
        source = min(own_addresses, default=None)
        forwarded = self.point is Point.ARRIVING and not host.receives(
            self.family, self.destination
        )
        if not forwarded or source is None:
            return None
        return replace(self, point=Point.LEAVING, source=source, arrived=self)


MULTICAST = (Network(Family.IPV4, 0xE0000000, 4), Network(Family.IPV6, 0xFF << 120, 8))
ZERO_NETWORK = Network(Family.IPV4, 0, 8)
LIMITED_BROADCAST = 0xFFFFFFFF
UNSPECIFIED = 0
"""The source of a host that has no address yet (RFC 1122, section 3.2.1.3; RFC 4291)."""


@dataclass(frozen=True, slots=True)
class Host:
    """The addresses of this host, as pairs of family and integer, at one moment.

    ``broadcasts`` are the directed broadcast addresses of its IPv4 links and, in IPv6, the
    anycast addresses it answers to. ``lists`` are the lists of addresses that it has, by name.
    """

    addresses: frozenset[tuple[Family, int]] = field(default_factory=frozenset)
    broadcasts: frozenset[tuple[Family, int]] = field(default_factory=frozenset)
    lists: Mapping[str, AddressList] = field(default_factory=dict)

    def owns(self, family: Family, address: int) -> bool:
        """Whether `address` is this host's."""
        return (family, address) in self.addresses

    def sends(self, packet: Packet) -> bool:
        """Whether `packet` is from this host: ``me`` as a source.

        What this host makes itself is from it with any address, except the unspecified one. An
        address can go while packets from it are on their way, sockets of IPv6 go on sending from
        one that has gone, and ``ip_nonlocal_bind`` lets others send from any. The sockets of
        transparent proxies, which send for others, are not told apart here.
        """
        made_here = packet.point is Point.SENDING and packet.source != UNSPECIFIED
        return made_here or self.owns(packet.family, packet.source)

    def receives(self, family: Family, address: int) -> bool:
        """Whether arriving packets to `address` are delivered here: ``me`` as a destination.

        Besides its own addresses these are multicast and broadcast. The kernel takes 0.0.0.0/8
        and 255.255.255.255 for broadcast (``inet_addr_type`` in net/ipv4/fib_frontend.c).
        """
        return (
            self.owns(family, address)
            or (family, address) in self.broadcasts
            or is_multicast(family, address)
            or (family is Family.IPV4 and (address == LIMITED_BROADCAST or address in ZERO_NETWORK))
        )


def is_multicast(family: Family, address: int) -> bool:
    """Whether `address` is in 224.0.0.0/4 or ff00::/8."""
    return any(address in network for network in MULTICAST if network.family is family)
