"""Packets on the boundaries of filters: where any of them begins or ends to match."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from ipsecd.model.addresses import Family, Network
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    ICMP,
    IPV6_EXTENSION_HEADERS,
    PROTOCOLS_WITH_PORTS,
    InForce,
    InterfaceType,
)

LINKS = ("eth1", "wg0", "wg1", "dummy0", "other")


class Boundaries:
    """What packets are drawn from: every value that filters name, and those beside it."""

    def __init__(self, filters: Iterable[InForce], host: Host) -> None:
        self.host = host
        self.addresses = {family: {1, (1 << family.bits) - 1} for family in Family}
        for family, value in host.addresses | host.broadcasts:
            self.addresses[family].add(value)
        self.ports = {0, 1, 65535}
        self.protocols = {1, 6, 17, 47, 58}
        self.messages = {0, 8 << 8, 128 << 8}
        for one in filters:
            member = one.filter
            for end in (member.source, member.destination):
                if isinstance(end.address, Network):
                    self._add_network(end.address)
                for ports in end.ports:
                    near = {ports.first - 1, ports.first, ports.last, ports.last + 1}
                    self.ports |= {port for port in near if 0 <= port <= 65535}
            if isinstance(member.protocol, int):
                self.protocols.add(member.protocol)
            if member.message:
                for number in {member.message.number(family) for family in Family} - {None}:
                    assert number is not None
                    code = member.message.code or 0
                    self.messages |= {number << 8 | code, number << 8 | 255, (number ^ 1) << 8}
        for members in host.lists.values():
            for network in members.networks():
                self._add_network(network)

    def _add_network(self, network: Network) -> None:
        bits = network.family.bits
        last = network.address | (1 << bits - network.length) - 1
        near = {network.address - 1, network.address, last, last + 1}
        self.addresses[network.family] |= {value for value in near if 0 <= value < 1 << bits}

    def packet(self, luck: random.Random) -> Packet:
        """One of the packets."""
        point, family = luck.choice(list(Point)), luck.choice(list(Family))
        protocol = luck.choice(sorted(self.protocols))
        fragment = luck.randrange(5) == 0
        if family is Family.IPV6 and protocol in IPV6_EXTENSION_HEADERS:
            fragment = True
        source, destination = (luck.choice(sorted(self.addresses[family])) for _ in range(2))
        sport, dport = (luck.choice(sorted(self.ports)) for _ in range(2))
        with_ports = protocol in PROTOCOLS_WITH_PORTS and not fragment
        is_icmp = protocol == ICMP.number(family) and not fragment
        message = luck.choice(sorted(self.messages)) if is_icmp else None
        packet = Packet(
            Point.ARRIVING if point is Point.LEAVING else point,
            family,
            source,
            destination,
            protocol,
            sport if with_ports else None,
            dport if with_ports else None,
            interface_type=luck.choice(list(InterfaceType)),
            later_fragment=fragment,
            icmp_type=None if message is None else message >> 8,
            icmp_code=(message or 0) & 0xFF,
            interface=luck.choice(LINKS),
            opening=luck.choice((True, False)),
        )
        if point is not Point.LEAVING:
            return packet
        leaving = packet.leaving(self.host)
        if leaving is None:
            return packet
        return replace(
            leaving,
            interface=luck.choice(LINKS),
            interface_type=luck.choice(list(InterfaceType)),
        )
