"""Owns what elements of zones and policies ask of packets; must not know their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipsecctl.importing.firewalld import (
    Configuration,
    Element,
    IcmpOf,
    Item,
    PortOf,
    RichRule,
    Service,
    Side,
)
from ipsecctl.importing.regions import Dim, Region, complement, full, meet, spans_of
from ipsecd.model.addresses import Family, Network
from ipsecd.quoting import quote

_ICMP = {Family.IPV4: 1, Family.IPV6: 58}


class Unknown(Exception):
    """No packet says whether it is meant; the text says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """The packets of one IP version, and the ipset that their addresses are from."""

    family: Family
    region: Region
    set_name: str = ""


def everything() -> tuple[Part, ...]:
    """All packets."""
    return tuple(Part(family, {}) for family in Family)


def both(one: tuple[Part, ...], other: tuple[Part, ...]) -> tuple[Part, ...]:
    """The packets that are in both."""
    return tuple(
        Part(a.family, met, a.set_name or b.set_name)
        for a in one
        for b in other
        if a.family is b.family and (met := meet(a.region, b.region)) is not None
    )


def of_version(version: int | None) -> tuple[Part, ...]:
    """The packets of an IP version, or of both."""
    return tuple(part for part in everything() if version in (None, int(part.family)))


def of_item(item: Item) -> tuple[Part, ...]:
    """The packets of a port, a protocol or a type of ICMP."""
    if isinstance(item.value, PortOf):
        return _of_port(item.value, Dim.DESTINATION_PORT)
    if isinstance(item.value, IcmpOf):
        return of_icmp(item.value)
    return _of_protocol(item.value)


def of_source_port(port: PortOf) -> tuple[Part, ...]:
    """The packets from a port."""
    return _of_port(port, Dim.SOURCE_PORT)


def of_icmp(wanted: IcmpOf) -> tuple[Part, ...]:
    """The packets with a type of ICMP."""
    return tuple(
        Part(family, {Dim.PROTOCOL: ((_ICMP[family], _ICMP[family]),), Dim.MESSAGE: (span,)})
        for family, message in zip(Family, (wanted.ipv4, wanted.ipv6), strict=True)
        if message
        for number, code in (message,)
        for first in (number << 8 | (code or 0),)
        for span in ((first, first if code is not None else first | 255),)
    )


def any_icmp() -> tuple[Part, ...]:
    """All packets of ICMP, each IP version's own."""
    return tuple(Part(one, {Dim.PROTOCOL: ((_ICMP[one], _ICMP[one]),)}) for one in Family)


def of_service(configuration: Configuration, name: str) -> Iterator[Part]:
    """The packets of a service and of all that it includes."""
    for service in configuration.service(name):
        limits = _destinations(service)
        for port in service.ports:
            yield from both(_of_port(port, Dim.DESTINATION_PORT), limits)
        for port in service.source_ports:
            yield from both(_of_port(port, Dim.SOURCE_PORT), limits)
        for protocol in service.protocols:
            yield from both(_of_protocol(protocol), limits)


def of_rich(configuration: Configuration, rule: RichRule) -> tuple[Part, ...]:
    """The packets of a rich rule, whatever its limit; raises ``Unknown``."""
    parts = of_version(rule.version)
    if rule.source:
        parts = both(parts, of_side(configuration, rule.source, Dim.SOURCE))
    if rule.destination:
        parts = both(parts, of_side(configuration, rule.destination, Dim.DESTINATION))
    return both(parts, _of_element(configuration, rule.element))


def of_side(configuration: Configuration, side: Side, dim: Dim) -> tuple[Part, ...]:
    """The packets with an address of a side; raises ``Unknown``."""
    if side.mac:
        raise Unknown(f"hardware address {quote(side.mac)} is no part of what policies look at")
    name = ""
    networks: tuple[Network, ...]
    if side.network:
        family, networks = side.network.family, (side.network,)
    else:
        known = configuration.ipsets.get(side.ipset)
        if known is None:
            raise Unknown(f"ipset {quote(side.ipset)} is not described in ipsets/")
        if known.reason:
            raise Unknown(f"ipset {quote(side.ipset)} is no list of addresses: {known.reason}")
        name, family, networks = side.ipset, known.family, known.entries
    some = spans_of(networks)
    if side.inverted:
        some, name = complement(some, full(dim, family)), ""
    return (Part(family, {dim: some}, name),) if some else ()


def _of_element(configuration: Configuration, element: Element) -> tuple[Part, ...]:
    if element.service:
        return tuple(of_service(configuration, element.service))
    if element.port:
        return _of_port(element.port, Dim.DESTINATION_PORT)
    if element.source_port:
        return of_source_port(element.source_port)
    if element.protocol is not None:
        return _of_protocol(element.protocol)
    return of_icmp(element.icmp) if element.icmp else everything()


def _of_port(port: PortOf, dim: Dim) -> tuple[Part, ...]:
    ports = ((port.ports.first, port.ports.last),)
    protocol = ((port.protocol, port.protocol),)
    return tuple(Part(family, {Dim.PROTOCOL: protocol, dim: ports}) for family in Family)


def _of_protocol(number: int) -> tuple[Part, ...]:
    return tuple(Part(family, {Dim.PROTOCOL: ((number, number),)}) for family in Family)


def _destinations(service: Service) -> tuple[Part, ...]:
    if not service.destinations:
        return everything()
    return tuple(
        Part(one.family, {Dim.DESTINATION: spans_of((one,))}) for one in service.destinations
    )
