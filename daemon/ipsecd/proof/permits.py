"""Owns how flows become filters that permit them; must not know what a policy does with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ipsecd.model.addresses import Address, Keyword, Network
from ipsecd.model.flows import Flow
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.packets import UNSPECIFIED, Host, Point
from ipsecd.model.values import Endpoint, Filter, PortRange
from ipsecd.proof.peers import MANY_NETWORKS, Peer, networks_of, prefixes_of


@dataclass(frozen=True, slots=True)
class Permit:
    """A filter that was learned, and the flows that asked for it."""

    filter: Filter
    flows: tuple[Flow, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """What flows have in common that differ in one address, that of the peer.

    ``other`` is the address at the other side, and ``peer_sends`` says which side the peer is.
    """

    rule: str
    other: Address
    peer_sends: bool
    protocol: int
    source_port: int | None
    destination_port: int | None
    message: tuple[int, int] | None


def service_of(flow: Flow, host: Host) -> Service:
    """What `flow` is a use of, on `host`."""
    source: Address = Network(flow.family, flow.source, flow.family.bits)
    destination: Address = Network(flow.family, flow.destination, flow.family.bits)
    made_here = flow.point is not Point.ARRIVING and flow.source != UNSPECIFIED
    if made_here or host.owns(flow.family, flow.source):
        source = Keyword.ME
    elif flow.point is Point.ARRIVING and host.receives(flow.family, flow.destination):
        destination = Keyword.ME
    is_request = source is not Keyword.ME and flow.source_port is None
    peer_sends = destination is Keyword.ME or is_request
    message = None if flow.icmp_type is None else (flow.icmp_type, flow.icmp_code)
    other = destination if peer_sends else source
    ports = (flow.source_port, flow.destination_port)
    return Service(flow.rule, other, peer_sends, flow.protocol, *ports, message)


def proposed(
    flows: Iterable[Flow],
    service_of_flow: Callable[[Flow], Service],
    narrow: Collection[Service],
    widen: int | None,
) -> dict[str, list[Permit]]:
    """The permits for `flows`, by audit rule; those of `narrow` services are as narrow as can be.

    `widen` is as for ``prefixes_of``.
    """
    services: dict[Service, list[Flow]] = defaultdict(list)
    for flow in sorted(flows, key=_order):
        services[service_of_flow(flow)].append(flow)
    wide: dict[str, list[Permit]] = defaultdict(list)
    others: dict[str, list[Permit]] = defaultdict(list)
    for service, those in services.items():
        if service in narrow:
            others[service.rule] += _permits_for(service, those, _hosts)
        else:
            wide[service.rule] += _permits_for(service, those, lambda of: _shared(of, widen))
    return {
        rule: [*_with_ports_together(_mirrored(wide[rule])), *others[rule]]
        for rule in {**wide, **others}
    }


def _permits_for(
    service: Service,
    flows: Sequence[Flow],
    addresses_of: Callable[[Collection[Peer]], Iterable[Address]],
) -> Iterator[Permit]:
    by_peer: dict[Peer, list[Flow]] = defaultdict(list)
    for flow in flows:
        peer = flow.source if service.peer_sends else flow.destination
        by_peer[(flow.family, peer)].append(flow)
    for address in addresses_of(by_peer):
        own = [those for peer, those in by_peer.items() if _is_in(peer, address)]
        yield Permit(_filter(service, address), tuple(flow for those in own for flow in those))


def _hosts(peers: Collection[Peer]) -> Iterator[Address]:
    return (Network(family, address, family.bits) for family, address in peers)


def _shared(peers: Collection[Peer], widen: int | None) -> Iterable[Address]:
    return [Keyword.ANY] if len(networks_of(peers)) >= MANY_NETWORKS else prefixes_of(peers, widen)


def _is_in(peer: Peer, address: Address) -> bool:
    if isinstance(address, Network):
        return address.family is peer[0] and peer[1] in address
    return True


def _order(flow: Flow) -> tuple[object, ...]:
    """The order in which people read them: by what they have in common, from the first on."""
    service = (flow.point.value, flow.protocol, flow.destination_port or 0, flow.source_port or 0)
    message = (-1 if flow.icmp_type is None else flow.icmp_type, flow.icmp_code)
    ends = (flow.family, flow.source, flow.destination, flow.interface)
    return (flow.rule, *service, *message, *ends)


def _filter(service: Service, peer: Address) -> Filter:
    source, destination = (peer, service.other) if service.peer_sends else (service.other, peer)
    message = None
    if service.message:
        kind, code = service.message
        is_ipv4 = service.protocol == 1
        message = IcmpMessage(kind if is_ipv4 else None, None if is_ipv4 else kind, code)
    return Filter(
        Endpoint(source, _ports(service.source_port)),
        Endpoint(destination, _ports(service.destination_port)),
        service.protocol,
        message=message,
    )


def _ports(port: int | None) -> tuple[PortRange, ...]:
    return () if port is None else (PortRange(port, port),)


def _mirrored(permits: Iterable[Permit]) -> list[Permit]:
    """The same, with one mirrored filter for two that are each other's way back."""
    there: dict[Filter, Permit] = {}
    for permit in permits:
        one = permit.filter
        back = replace(one, source=one.destination, destination=one.source)
        before = there.get(one)
        if before:
            there[one] = replace(before, flows=(*before.flows, *permit.flows))
        elif back in there and one.message is None:
            flows = (*there.pop(back).flows, *permit.flows)
            # A service stands at the right of its filter, where people look for it.
            one = one if one.destination.ports or not one.source.ports else back
            both = replace(one, mirrored=True)
            there[both] = Permit(both, flows)
        else:
            there[one] = permit
    return list(there.values())


def _with_ports_together(permits: Iterable[Permit]) -> Iterator[Permit]:
    """The same, with one filter for those that differ in one port only."""
    alike: dict[tuple[Filter, bool], list[Permit]] = defaultdict(list)
    for permit in permits:
        one = permit.filter
        source, destination = one.source, one.destination
        is_one_side = bool(source.ports) is not bool(destination.ports)
        bare = replace(
            one,
            source=replace(source, ports=()),
            destination=replace(destination, ports=()),
        )
        alike[(bare if is_one_side else one, bool(source.ports))].append(permit)
    for (bare, at_source), those in alike.items():
        if len(those) == 1:
            yield those[0]
            continue
        ports = {p for permit in those for p in _own_ports(permit.filter)}
        side = replace(bare.source if at_source else bare.destination, ports=_ranges(ports))
        joined = replace(bare, source=side) if at_source else replace(bare, destination=side)
        yield Permit(joined, tuple(flow for permit in those for flow in permit.flows))


def _own_ports(one: Filter) -> Iterator[int]:
    for ports in (*one.source.ports, *one.destination.ports):
        yield from range(ports.first, ports.last + 1)


def _ranges(ports: Iterable[int]) -> tuple[PortRange, ...]:
    ranges: list[PortRange] = []
    for port in sorted(ports):
        if ranges and ranges[-1].last == port - 1:
            ranges[-1] = PortRange(ranges[-1].first, port)
        else:
            ranges.append(PortRange(port, port))
    return tuple(ranges)
