"""Owns whether a policy does what its author expects; pure, and the same on every host.

``decide`` judges each packet by the filters of the policy alone: without dynamic rules,
exemptions and settings. What a host knows, a filter cannot: ``me`` is an address that no filter
names, and DNS names, containers, networks and labels stand for nobody. Lists have the entries that
are given, and on a host none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Address, Family, HostName, ListName, Network, Selector
from ipsecd.model.decide import Decision, decide
from ipsecd.model.expectations import SOME_HOST, Expectation
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet
from ipsecd.model.source_ports import decisions_by_source_port
from ipsecd.model.values import Endpoint, Filter, InForce, Origin, Policy, Store
from ipsecd.quoting import quote

MAX_COMPARED = 10_000_000
"""Pairs of a packet and a filter that can match any of the packets, at up to 3 µs a pair."""
MAX_JUDGED = 500_000
"""Pairs of a packet and a filter that can match that packet, at up to 80 µs a pair."""
NO_LISTS: Mapping[str, AddressList] = MappingProxyType({})
_UNICAST = {
    Family.IPV4: (0x01000001, 0xDFFFFFFF),
    Family.IPV6: (0x2000 << 112 | 1, (0x4000 << 112) - 1),
}
"""The first and the last address that a host can have."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """An expectation, and what becomes of its packet instead; what was beaten is left out.

    ``source_ports`` are the first and the last of the ports from which that becomes of it, if it
    is expected of all; the first such range is told.
    """

    expectation: Expectation
    decision: Decision
    source_ports: tuple[int, int] | None = None


def unmet(policy: Policy, lists: Mapping[str, AddressList] = NO_LISTS) -> tuple[Unmet, ...]:
    """What of the expectations of `policy` is not so, in their order.

    Takes one pass over the filters for all packets, and ``decide`` for each packet over those that
    can match it. Raises ``LimitExceeded`` where that would take more than a minute or so. The rules
    of a policy that expects nothing are not looked at.
    """
    if not policy.expect:
        return ()
    host = replace(_host_for(policy), lists=lists)
    expected = [
        replace(expectation, packet=_as_seen(expectation.packet, host))
        for expectation in policy.expect
    ]
    filters = tuple(_filters_near(policy, _Nearness(expected, lists)))
    _check_pairs(policy, len(expected) * len(filters), MAX_COMPARED)
    judged = 0
    found = []
    for original, expectation in zip(policy.expect, expected, strict=True):
        nearness = _Nearness([expectation], lists)
        near = [candidate for candidate in filters if nearness.has_both(candidate.filter)]
        judged += sum(map(_times_judged, near)) if expectation.any_source_port else len(near)
        _check_pairs(policy, judged, MAX_JUDGED)
        failing = _failing(expectation, near, host)
        if failing:
            found.append(replace(failing, expectation=original))
    return tuple(found)


def _failing(expectation: Expectation, near: Sequence[InForce], host: Host) -> Unmet | None:
    """How an expectation is not met by the filters that are near its packet; None if it is."""
    packet = expectation.packet
    if not expectation.any_source_port:
        decision = decide(near, packet, host)
        if decision.action is expectation.action:
            return None
        return Unmet(expectation, replace(decision, beaten=()))
    for ports in decisions_by_source_port(near, packet, host):
        if ports.decision.action is not expectation.action:
            return Unmet(expectation, ports.decision, (ports.first, ports.last))
    return None


def _times_judged(candidate: InForce) -> int:
    """How often a filter is asked about a packet that can come from any port."""
    return 1 + 2 * (len(candidate.filter.source.ports) + len(candidate.filter.destination.ports))


def _check_pairs(policy: Policy, pairs: int, most: int) -> None:
    if pairs > most:
        raise LimitExceeded(
            f"policy {quote(policy.name)} expects too much to be judged: its "
            f"{len(policy.expect):,} expectations meet more than {most:,} filters together",
            "leave out expectations, or merge filters that match the same packets",
        )


class _Nearness:
    """Which filters can match any of some packets: those whose ends can both be a packet's."""

    def __init__(self, expected: Iterable[Expectation], lists: Mapping[str, AddressList]) -> None:
        self._lists = lists
        self._addresses: dict[Family, set[int]] = {family: set() for family in Family}
        ports: set[int] = set()
        self._any_port = False
        for expectation in expected:
            packet = expectation.packet
            self._any_port = self._any_port or expectation.any_source_port
            self._addresses[packet.family] |= {packet.source, packet.destination}
            ports |= {
                port for port in (packet.source_port, packet.destination_port) if port is not None
            }
        self._ports = sorted(ports)
        self._prefixes: dict[tuple[Family, int], set[int]] = {}

    def has_both(self, member: Filter) -> bool:
        """Whether both ends of a filter can be those of a packet."""
        ends = (member.source, member.destination)
        if not all(self._has_address(end.address) for end in ends):
            return False
        # Where a source port is any, the other end has the port of the destination.
        enough = any if self._any_port else all
        return enough(self._has_ports(end) for end in ends)

    def _has_address(self, address: Address) -> bool:
        if isinstance(address, Network):
            return self._has_prefix(address)
        if isinstance(address, ListName):
            return self._is_listed(address.name)
        return not isinstance(address, HostName | Selector)

    def _is_listed(self, name: str) -> bool:
        members = self._lists.get(name, AddressList())
        return any(
            True
            for family, addresses in self._addresses.items()
            for address in addresses
            for _ in members.covering(family, address)
        )

    def _has_ports(self, end: Endpoint) -> bool:
        return not end.ports or any(self._has_port(ports.first, ports.last) for ports in end.ports)

    def _has_prefix(self, network: Network) -> bool:
        dropped = network.family.bits - network.length
        prefixes = self._prefixes.get((network.family, dropped))
        if prefixes is None:
            prefixes = {address >> dropped for address in self._addresses[network.family]}
            self._prefixes[network.family, dropped] = prefixes
        return network.address >> dropped in prefixes

    def _has_port(self, first: int, last: int) -> bool:
        place = bisect_left(self._ports, first)
        return place < len(self._ports) and self._ports[place] <= last


def _filters_near(policy: Policy, near: _Nearness) -> Iterator[InForce]:
    for rule in policy.rules:
        origin = Origin(Store.STATIC.value, policy.name, rule.name)
        for member in rule.filters:
            if near.has_both(member):
                yield InForce(origin, member, rule.action, rule.conditions)


def _host_for(policy: Policy) -> Host:
    """A host with an address of each IP version that neither filters nor packets name.

    Where networks cover all that there are, it has the one that stands in expectations.
    """
    named: dict[Family, set[tuple[int, int]]] = {family: set() for family in Family}
    named[Family.IPV4].add((0x7F000000, 0x7FFFFFFF))
    for expectation in policy.expect:
        packet = expectation.packet
        named[packet.family] |= {(side, side) for side in (packet.source, packet.destination)}
    members: Iterable[Filter] = (member for rule in policy.rules for member in rule.filters)
    for member in members:
        for address in (member.source.address, member.destination.address):
            if isinstance(address, Network) and address.length:
                last = address.address + (1 << address.family.bits - address.length) - 1
                named[address.family].add((address.address, last))
    standing = dict(SOME_HOST.addresses)
    return Host(
        frozenset(
            (family, _outside(named[family], family) or standing[family]) for family in Family
        )
    )


def _outside(ranges: Iterable[tuple[int, int]], family: Family) -> int | None:
    """The first unicast address that is in none of `ranges`; None if there is no such."""
    address, most = _UNICAST[family]
    for first, last in sorted(ranges):
        if first > address:
            break
        address = max(address, last + 1)
    return address if address <= most else None


def _as_seen(packet: Packet, host: Host) -> Packet:
    """The packet with the address of `host` in the place of that of ``SOME_HOST``."""
    standing, own = dict(SOME_HOST.addresses)[packet.family], dict(host.addresses)[packet.family]
    return replace(
        packet,
        source=own if packet.source == standing else packet.source,
        destination=own if packet.destination == standing else packet.destination,
    )
