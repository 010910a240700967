"""Owns what firewalld does with a packet, read from its files; must not know its translation.

It goes the way of the rules that firewalld makes: a packet gets into the zone of its source, else
of its link, else into the default zone; policies with a priority below zero come before the zone,
others behind it; in either, rich rules below zero, what denies, what allows, rich rules above zero,
and the target (firewalld.zone(5), firewalld.policy(5), firewalld.richlanguage(5)).
"""

from __future__ import annotations

from collections.abc import Iterator

from ipsecctl.importing.firewalld import (
    ACCEPT,
    ACCEPTS_CONNECTIONS,
    ACCEPTS_LOOPBACK,
    ANY_ZONE,
    CONTINUE,
    DEFAULT,
    DROPS_INVALID,
    HOST_ZONE,
    Configuration,
    Element,
    IcmpOf,
    Item,
    Policy,
    PortOf,
    RichRule,
    Side,
    Traffic,
    Zone,
)
from ipsecctl.importing.source import Decided, Hook, Judgement, Line, SourcePacket, State
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

_ICMP = {Family.IPV4: 1, Family.IPV6: 58}
_OF_CONNECTIONS = frozenset({State.ESTABLISHED, State.RELATED})

Step = tuple[bool | None, Action, Line]
"""Whether a rule matches (None: that cannot be known), what it does then, and the rule."""


class FirewalldEvaluator:
    """Judges packets as firewalld does."""

    def __init__(self, configuration: Configuration) -> None:
        self._all = configuration
        # Of zones that could have a packet, those of a lower priority come first, then by name.
        self._zones = sorted(
            configuration.zones.values(), key=lambda one: (one.ingress_priority, one.name)
        )

    def judge(self, packet: SourcePacket) -> Judgement:
        """What firewalld does with a packet."""
        if packet.state in _OF_CONNECTIONS:
            return _sure(Action.PERMIT, ACCEPTS_CONNECTIONS)
        if packet.link == "lo":
            return _sure(Action.PERMIT, ACCEPTS_LOOPBACK)
        if packet.state is State.INVALID and packet.hook is not Hook.OUT:
            return _sure(Action.BLOCK, DROPS_INVALID)
        walk = _Walk()
        if packet.hook is Hook.OUT:
            walk.take(self._sent(packet))
            # Nothing rejects what this host sends.
            walk.end(Decided(Action.PERMIT, None))
            return walk.judgement()
        there = self._zone_to(packet, packet.out_link)
        for doubtful, zone in self._zones_from(packet):
            if packet.hook is Hook.IN:
                walk.take(self._received(packet, zone))
            else:
                walk.take(self._through(packet, zone, there))
            if doubtful is None:
                break
            walk.doubt(doubtful)
        return walk.judgement()

    def _zones_from(self, packet: SourcePacket) -> Iterator[tuple[Line | None, Zone]]:
        """The zones that a packet may come from; the last is sure, and has None before it.

        The others have the line of a source of which it is not known whether the packet is from it.
        """
        for zones in self._by_priority():
            for zone in zones:
                found = [
                    (self._has(side, packet, packet.source), line) for side, line in zone.sources
                ]
                if any(has for has, _ in found):
                    yield None, zone
                    return
                for line in [line for has, line in found if has is None][:1]:
                    yield line, zone
            for zone in zones:
                if any(_is_link(one.name, packet.link) for one in zone.interfaces):
                    yield None, zone
                    return
        yield None, self._all.zones[self._all.default_zone]

    def _zone_to(self, packet: SourcePacket, link: str) -> Zone:
        """The zone that a packet goes to. Hardware addresses have no part in that."""
        for zones in self._by_priority():
            for zone in zones:
                if any(self._has(side, packet, packet.destination) for side, _ in zone.sources):
                    return zone
            for zone in zones:
                if any(_is_link(one.name, link) for one in zone.interfaces):
                    return zone
        return self._all.zones[self._all.default_zone]

    def _by_priority(self) -> list[list[Zone]]:
        """The zones of each priority, in the order in which packets get into them."""
        priorities = sorted({zone.ingress_priority for zone in self._zones})
        return [
            [zone for zone in self._zones if zone.ingress_priority == priority]
            for priority in priorities
        ]

    def _received(self, packet: SourcePacket, zone: Zone) -> Iterator[Step]:
        policies = [
            one
            for one in self._all.policies
            if HOST_ZONE in one.egress and {zone.name, ANY_ZONE} & set(one.ingress)
        ]
        yield from self._of_policies(packet, policies, before=True)
        yield from self._of_traffic(packet, zone.traffic)
        yield from self._of_policies(packet, policies, before=False)
        is_icmp = packet.protocol == _ICMP[packet.family]
        inverted = zone.traffic.icmp_inversion
        if zone.target == DEFAULT or (zone.target == ACCEPT and inverted):
            yield is_icmp, Action.BLOCK if inverted else Action.PERMIT, zone.line
        yield True, Action.PERMIT if zone.target == ACCEPT else Action.BLOCK, zone.line

    def _sent(self, packet: SourcePacket) -> Iterator[Step]:
        zone = self._zone_to(packet, packet.link)
        policies = [
            one
            for one in self._all.policies
            if HOST_ZONE in one.ingress and {zone.name, ANY_ZONE} & set(one.egress)
        ]
        for before in (True, False):
            yield from self._of_policies(packet, policies, before=before)

    def _through(self, packet: SourcePacket, here: Zone, there: Zone) -> Iterator[Step]:
        policies = [
            one
            for one in self._all.policies
            if {here.name, ANY_ZONE} & set(one.ingress) and {there.name, ANY_ZONE} & set(one.egress)
        ]
        yield from self._of_policies(packet, policies, before=True)
        if not here.traffic.icmp_inversion:
            for item in here.traffic.icmp_blocks:
                yield self._is(item, packet), Action.BLOCK, item.line
        if here.forward and here.name == there.name:
            yield self._leaves_into(packet, here), Action.PERMIT, here.forward
        yield from self._of_policies(packet, policies, before=False)
        yield here.target == ACCEPT, Action.PERMIT, here.line
        yield here.target == DEFAULT and there.target == ACCEPT, Action.PERMIT, there.line
        yield True, Action.BLOCK, here.line

    def _leaves_into(self, packet: SourcePacket, zone: Zone) -> bool:
        """Whether a packet leaves by what the zone names; the default zone may have more."""
        if any(_is_link(one.name, packet.out_link) for one in zone.interfaces):
            return True
        return any(self._has(side, packet, packet.destination) for side, _ in zone.sources)

    def _of_policies(
        self, packet: SourcePacket, policies: list[Policy], *, before: bool
    ) -> Iterator[Step]:
        for policy in policies:
            if (policy.priority < 0) is not before:
                continue
            yield from self._of_traffic(packet, policy.traffic)
            if policy.target != CONTINUE:
                permits = policy.target == ACCEPT
                yield True, Action.PERMIT if permits else Action.BLOCK, policy.line

    def _of_traffic(self, packet: SourcePacket, traffic: Traffic) -> Iterator[Step]:
        rich = sorted(traffic.rich, key=lambda one: (one.priority, one.action == "accept"))
        rich = [one for one in rich if one.action]
        yield from (self._rich(one, packet) for one in rich if one.priority < 0)
        ordinary = [one for one in rich if not one.priority]
        yield from (self._rich(one, packet) for one in ordinary if one.action != "accept")
        if not traffic.icmp_inversion:
            yield from self._items(traffic.icmp_blocks, packet, Action.BLOCK)
        yield from (self._rich(one, packet) for one in ordinary if one.action == "accept")
        for named in traffic.services:
            yield self._is_service(named.name, packet), Action.PERMIT, named.line
        yield from self._items(traffic.ports + traffic.protocols, packet, Action.PERMIT)
        for item in traffic.source_ports:
            assert isinstance(item.value, PortOf)
            yield _is_port(item.value, packet, packet.source_port), Action.PERMIT, item.line
        if traffic.icmp_inversion:
            yield from self._items(traffic.icmp_blocks, packet, Action.PERMIT)
        yield from (self._rich(one, packet) for one in rich if one.priority > 0)

    def _items(
        self, items: tuple[Item, ...], packet: SourcePacket, action: Action
    ) -> Iterator[Step]:
        for item in items:
            yield self._is(item, packet), action, item.line

    def _is(self, item: Item, packet: SourcePacket) -> bool:
        if isinstance(item.value, PortOf):
            return _is_port(item.value, packet, packet.destination_port)
        if isinstance(item.value, IcmpOf):
            return _is_icmp(item.value, packet)
        return item.value == packet.protocol

    def _rich(self, rule: RichRule, packet: SourcePacket) -> Step:
        action = Action.PERMIT if rule.action == "accept" else Action.BLOCK
        asked = [
            rule.version in (None, int(packet.family)),
            rule.source is None or self._has(rule.source, packet, packet.source),
            rule.destination is None or self._has(rule.destination, packet, packet.destination),
            self._is_element(rule.element, packet),
            None if rule.limit else True,
        ]
        return (False if False in asked else None if None in asked else True), action, rule.line

    def _is_element(self, element: Element, packet: SourcePacket) -> bool:
        if element.service:
            return self._is_service(element.service, packet)
        if element.port:
            return _is_port(element.port, packet, packet.destination_port)
        if element.source_port:
            return _is_port(element.source_port, packet, packet.source_port)
        if element.protocol is not None:
            return element.protocol == packet.protocol
        return element.icmp is None or _is_icmp(element.icmp, packet)

    def _is_service(self, name: str, packet: SourcePacket) -> bool:
        for service in self._all.service(name):
            places = [one for one in service.destinations if one.family is packet.family]
            if service.destinations and not any(packet.destination in one for one in places):
                continue
            if (
                any(_is_port(one, packet, packet.destination_port) for one in service.ports)
                or any(_is_port(one, packet, packet.source_port) for one in service.source_ports)
                or packet.protocol in service.protocols
            ):
                return True
        return False

    def _has(self, side: Side, packet: SourcePacket, address: int) -> bool | None:
        """Whether an address is at a side; None if that cannot be known."""
        if side.network:
            if side.network.family is not packet.family:
                return False
            return (address in side.network) is not side.inverted
        known = self._all.ipsets.get(side.ipset)
        if known is None or known.reason:
            return None
        if known.family is not packet.family:
            return False
        return any(address in one for one in known.entries) is not side.inverted


class _Walk:
    """The way of a packet, and all verdicts that it may meet there."""

    def __init__(self) -> None:
        self._outcomes: list[Decided] = []
        self._unsure: list[Line] = []
        self._ended = False

    def take(self, steps: Iterator[Step]) -> None:
        """Go on until a rule surely matches."""
        for matches, action, line in steps:
            if matches is False:
                continue
            self._outcomes.append(Decided(action, line))
            if matches:
                self._ended = True
                return
            self._unsure.append(line)

    def end(self, last: Decided) -> None:
        """What becomes of the packet if nothing has decided."""
        if not self._ended:
            self._outcomes.append(last)

    def doubt(self, line: Line) -> None:
        """Say that it is not known whether the packet has come this way at all."""
        self._unsure.append(line)
        self._ended = False

    def judgement(self) -> Judgement:
        """All verdicts, and the lines that they depend on."""
        return Judgement(tuple(dict.fromkeys(self._outcomes)), tuple(self._unsure))


def _sure(action: Action, line: Line) -> Judgement:
    return Judgement((Decided(action, line),))


def _is_link(pattern: str, link: str) -> bool:
    """Whether a link is meant by a name, which may end in + for any ending."""
    if pattern.endswith(("+", "*")):
        return link.startswith(pattern[:-1])
    return pattern == link


def _is_port(wanted: PortOf, packet: SourcePacket, port: int | None) -> bool:
    return wanted.protocol == packet.protocol and port is not None and port in wanted.ports


def _is_icmp(wanted: IcmpOf, packet: SourcePacket) -> bool:
    of_version = wanted.ipv4 if packet.family is Family.IPV4 else wanted.ipv6
    if of_version is None or packet.protocol != _ICMP[packet.family] or packet.message is None:
        return False
    number, code = of_version
    return packet.message >> 8 == number and code in (None, packet.message & 255)
