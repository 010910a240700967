"""Owns which filters can match any of some packets, found out faster than by ``decide``; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ipsecd.model.addresses import Address, Family, HostName, ListName, Network, Selector
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Packet
from ipsecd.model.values import Endpoint, Filter

NO_LISTS: Mapping[str, AddressList] = MappingProxyType({})


class Nearness:
    """Whether both ends of a filter can be those of one of some packets.

    With `any_source_port` packets may come from other ports. Names of `lists` stand for what these
    hold; DNS names and what containers are called stand for nobody. With `names_count` all of them
    may stand for anybody.
    """

    def __init__(
        self,
        packets: Iterable[Packet],
        *,
        any_source_port: bool = False,
        lists: Mapping[str, AddressList] = NO_LISTS,
        names_count: bool = False,
    ) -> None:
        self._any_port, self._names_count = any_source_port, names_count
        self._lists = lists
        self._addresses: dict[Family, set[int]] = {family: set() for family in Family}
        ports: set[int] = set()
        for packet in packets:
            for seen in (packet, packet.arrived or packet):
                self._addresses[seen.family] |= {seen.source, seen.destination}
                ends = (seen.source_port, seen.destination_port)
                ports |= {port for port in ends if port is not None}
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
        if self._names_count:
            return True
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
