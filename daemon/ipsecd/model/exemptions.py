"""Owns the exemptions, which no filter can block: the essentials, and those of Windows.

An exempt packet passes before any filter is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.model.packets import LIMITED_BROADCAST, ZERO_NETWORK, Host, Packet, Point, is_multicast
from ipsecd.model.values import TCP, UDP
from ipsecd.quoting import quote


class Cast(Enum):
    """A kind of destination address that an exemption names."""

    MULTICAST = "multicast"
    BROADCAST = "broadcast"


ARRIVES = frozenset({Point.ARRIVING})
GOES = frozenset({Point.SENDING, Point.LEAVING})


@dataclass(frozen=True, slots=True)
class Pattern:
    """What exempt packets look like; a field that is None or empty matches anything.

    A code of ICMP stands only beside a single type.
    """

    points: frozenset[Point] = ARRIVES | GOES
    family: Family | None = None
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    icmp_types: frozenset[int] = frozenset()
    icmp_code: int | None = None
    hop_limit: int | None = None
    cast: Cast | None = None

    def matches(self, packet: Packet, host: Host) -> bool:
        """Whether `packet`, seen by `host`, is exempt by this pattern."""
        return (
            packet.point in self.points
            and self.family in (None, packet.family)
            and self.protocol in (None, packet.protocol)
            and self.source_port in (None, packet.source_port)
            and self.destination_port in (None, packet.destination_port)
            and (not self.icmp_types or packet.icmp_type in self.icmp_types)
            and self.icmp_code in (None, packet.icmp_code)
            and self.hop_limit in (None, packet.hop_limit)
            and (self.cast is None or cast_of(packet, host) is self.cast)
        )


@dataclass(frozen=True, slots=True)
class Exemption:
    """An exemption: its name, by which users switch it off, why it exists, and its patterns."""

    name: str
    reason: str
    patterns: tuple[Pattern, ...]


NEIGHBOUR_DISCOVERY = Exemption(
    "neighbour-discovery",
    "without it an IPv6 link is dead (RFC 4861: router and neighbour solicitation and "
    "advertisement, accepted with hop limit 255 only, so from this link only), or dies after "
    "minutes behind a switch that looks who listens (RFC 3810: queries and reports of multicast "
    "listeners, which are about this link only)",
    (
        Pattern(
            family=Family.IPV6,
            protocol=58,
            icmp_types=frozenset({133, 134, 135, 136}),
            hop_limit=255,
        ),
        Pattern(
            family=Family.IPV6,
            protocol=58,
            icmp_types=frozenset({130, 131, 132, 143}),
            hop_limit=1,
        ),
    ),
)
DHCP_CLIENT = Exemption(
    "dhcp-client",
    "without it the host loses its address when the lease ends (RFC 2131, RFC 8415)",
    (
        Pattern(ARRIVES, Family.IPV4, UDP, source_port=67, destination_port=68),
        Pattern(GOES, Family.IPV4, UDP, source_port=68, destination_port=67),
        Pattern(ARRIVES, Family.IPV6, UDP, source_port=547, destination_port=546),
        Pattern(GOES, Family.IPV6, UDP, source_port=546, destination_port=547),
    ),
)
PATH_MTU = Exemption(
    "path-mtu",
    "without it what is sent over a narrower link on the way is lost, and connections stall "
    "(RFC 1191: fragmentation needed; RFC 8201: packet too big)",
    (
        Pattern(family=Family.IPV4, protocol=1, icmp_types=frozenset({3}), icmp_code=4),
        Pattern(family=Family.IPV6, protocol=58, icmp_types=frozenset({2})),
    ),
)
MULTICAST = Exemption(
    "multicast", "NoDefaultExempt: all multicast", (Pattern(cast=Cast.MULTICAST),)
)
BROADCAST = Exemption(
    "broadcast", "NoDefaultExempt: all broadcast", (Pattern(cast=Cast.BROADCAST),)
)
RSVP = Exemption("rsvp", "NoDefaultExempt: protocol 46", (Pattern(protocol=46),))
IKE = Exemption(
    "ike",
    "NoDefaultExempt: UDP 500 and 4500",
    tuple(
        pattern
        for port in (500, 4500)
        for pattern in (
            Pattern(protocol=UDP, source_port=port),
            Pattern(protocol=UDP, destination_port=port),
        )
    ),
)
KERBEROS = Exemption(
    "kerberos",
    "NoDefaultExempt: TCP and UDP from or to port 88, so whoever sends from port 88 gets "
    "past every filter",
    tuple(
        pattern
        for protocol in (TCP, UDP)
        for pattern in (
            Pattern(protocol=protocol, source_port=88),
            Pattern(protocol=protocol, destination_port=88),
        )
    ),
)

ESSENTIALS = (NEIGHBOUR_DISCOVERY, DHCP_CLIENT, PATH_MTU)
NO_DEFAULT_EXEMPT: dict[int, tuple[Exemption, ...]] = {
    0: (MULTICAST, BROADCAST, RSVP, IKE, KERBEROS),
    1: (MULTICAST, BROADCAST, IKE),
    2: (RSVP, IKE, KERBEROS),
    3: (IKE,),
}
"""What each value of Windows' NoDefaultExempt exempts; here none is set by default."""

BY_NAME = {
    exempt.name: exempt for exempt in (*ESSENTIALS, MULTICAST, BROADCAST, RSVP, IKE, KERBEROS)
}


def exemption(name: str) -> Exemption:
    """The exemption called `name`; raises ``InvalidInput`` for a name that does not exist."""
    if name not in BY_NAME:
        raise InvalidInput(
            f"there is no exemption {quote(name)}", f"the names are {', '.join(sorted(BY_NAME))}"
        )
    return BY_NAME[name]


def cast_of(packet: Packet, host: Host) -> Cast | None:
    """Whether the packet's destination is multicast, broadcast as this host sees it, or neither."""
    if is_multicast(packet.family, packet.destination):
        return Cast.MULTICAST
    broadcast = packet.family is Family.IPV4 and (
        packet.destination == LIMITED_BROADCAST
        or packet.destination in ZERO_NETWORK
        or (packet.family, packet.destination) in host.broadcasts
    )
    return Cast.BROADCAST if broadcast else None
