"""Owns filters, which match packets, and their parts; must not know rules, nor any syntax.

Invariants:

1. Every value is immutable and valid: constructors raise ``InvalidInput``.
2. Addresses are integers in host order beside their family; a network has no host bits set.
3. Ports of one endpoint are disjoint, sorted ranges; no range at all means any port.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import (
    Address,
    Family,
    HostName,
    Keyword,
    Network,
    Process,
    Selector,
)
from ipsecd.model.icmp import IcmpMessage

MAX_PORT = 65535

_FAMILIES = frozenset(Family)
_ALONE = {family: frozenset({family}) for family in Family}


class IcmpOfFamily(Enum):
    """The protocol ``ICMP``: number 1 in IPv4 and number 58 in IPv6."""

    ICMP = "ICMP"

    def number(self, family: Family) -> int:
        """The protocol number that carries ICMP in `family`."""
        return 1 if family is Family.IPV4 else 58


ICMP = IcmpOfFamily.ICMP
ICMP_VERSIONS: dict[int | IcmpOfFamily | None, frozenset[int]] = {
    ICMP: frozenset({4, 6}),
    1: frozenset({4}),
    58: frozenset({6}),
}
"""The protocols that have messages of ICMP, and in which IP versions."""

TCP, UDP, DCCP, SCTP, UDPLITE = 6, 17, 33, 132, 136
PROTOCOLS_WITH_PORTS = frozenset({TCP, UDP, DCCP, SCTP, UDPLITE})

IPV6_EXTENSION_HEADERS = frozenset({0, 43, 44, 51, 60})
"""Protocol numbers that in IPv6 are headers to be seen through (RFC 8200, RFC 4302)."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports from ``first`` to ``last``, both included, 1 to 65535."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= MAX_PORT or not 1 <= self.last <= MAX_PORT:
            raise InvalidInput(
                f"port {self.first if not 1 <= self.first <= MAX_PORT else self.last} "
                f"is not between 1 and {MAX_PORT}",
                "leave the port out, or write 0 or *, for any port",
            )
        if self.first > self.last:
            raise InvalidInput(
                f"port range {self.first}-{self.last} ends before it begins",
                f"write {self.last}-{self.first}",
            )

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    @property
    def width(self) -> int:
        """How many ports the range holds."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a filter: an address and the ports at it (none given: any)."""

    address: Address = Keyword.ANY
    ports: tuple[PortRange, ...] = ()

    def __post_init__(self) -> None:
        if self.ports == ():
            return
        order = sorted(set(self.ports))
        for left, right in pairwise(order):
            if right.first <= left.last:
                raise InvalidInput(
                    f"ports {left.first}-{left.last} and {right.first}-{right.last} overlap",
                    "name every port once",
                )
        object.__setattr__(self, "ports", tuple(order))


@dataclass(frozen=True, slots=True)
class Filter:
    """A match on one packet, one way or mirrored.

    ``protocol`` is a number from 0 to 255, ``ICMP``, or None for any. Ports without a protocol
    stand for TCP and UDP. ``message`` is of the IP versions that the protocol belongs to.
    """

    source: Endpoint
    destination: Endpoint
    protocol: int | IcmpOfFamily | None = None
    mirrored: bool = False
    message: IcmpMessage | None = None
    # Found out when it is first asked for: filters are compared with those of other policies in
    # several ways, and each time it took as long as reading the filter.
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = self.protocol
        if self.message is not None:
            if number not in ICMP_VERSIONS:
                raise InvalidInput("only ICMP has types", "name ICMP or ICMPv6 as the protocol")
            object.__setattr__(self, "message", self.message.within(ICMP_VERSIONS[number]))
        if isinstance(number, int) and not 0 <= number <= 255:
            raise InvalidInput(f"protocol {number} is not between 0 and 255")
        if self.has_ports and number is not None and number not in PROTOCOLS_WITH_PORTS:
            raise InvalidInput(
                f"protocol {number if isinstance(number, int) else number.value} has no ports",
                "leave the port empty, as in *=0::ICMP, or name TCP, UDP or SCTP",
            )
        if isinstance(self.destination.address, Process) or (
            self.mirrored and isinstance(self.source.address, Process)
        ):
            raise InvalidInput(
                "local processes cannot be a destination",
                "they are known by what they send: name them on the left, with =",
            )
        if not self.families:
            raise InvalidInput(
                "the filter matches neither IPv4 nor IPv6 packets",
                "both addresses must be of one IP version, which must have the type of ICMP if "
                "one is given, and extension headers of IPv6 "
                "(protocols 0, 43, 44, 51, 60) are seen through, so no IPv6 packet has one of "
                "them as its protocol",
            )

    def __hash__(self) -> int:
        """As the fields say, of which two equal filters have equal ones."""
        if not self._hash:
            ends = (self.source, self.destination)
            parts = (*ends, self.protocol, self.mirrored, self.message)
            object.__setattr__(self, "_hash", hash(parts))
        return self._hash

    @property
    def has_ports(self) -> bool:
        """Whether either side names ports."""
        return bool(self.source.ports or self.destination.ports)

    @property
    def protocols(self) -> tuple[int | IcmpOfFamily | None, ...]:
        """What ``protocol`` stands for: TCP and UDP when only ports are given."""
        if self.protocol is None and self.has_ports:
            return (TCP, UDP)
        return (self.protocol,)

    @property
    def families(self) -> frozenset[Family]:
        """The IP versions whose packets can match. An unresolved name counts as both."""
        families = _FAMILIES
        for address in (self.source.address, self.destination.address):
            if isinstance(address, Network):
                families &= _ALONE[address.family]
            elif isinstance(address, HostName | Selector) and address.addresses:
                families &= {network.family for network in address.addresses}
        if self.protocol in IPV6_EXTENSION_HEADERS:
            families -= {Family.IPV6}
        if self.message is not None:
            families -= {family for family in families if self.message.number(family) is None}
        return families
