"""Hypothesis strategies: filters over a small world, and packets from their boundaries."""

from __future__ import annotations

from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    ICMP,
    PROTOCOLS_WITH_PORTS,
    Action,
    Endpoint,
    Family,
    Filter,
    InForce,
    InterfaceType,
    Keyword,
    Network,
    Origin,
    PortRange,
)

V4, V6 = Family.IPV4, Family.IPV6
ME = {V4: 0x0A090001, V6: 0xFD09 << 112 | 1}
OTHERS = {
    V4: (0x0A090002, 0x0A090100, 0x0A0A0000, 0xCB007107, 0xCB007108, 0xC0000201),
    V6: (0xFD09 << 112 | 2, 0xFD09 << 112 | 1 << 64, 0x20010DB8 << 96 | 7, 0x20010DB8 << 96 | 8),
}
BROADCAST = 0x0A0900FF
MULTICAST = {V4: 0xE0000005, V6: 0xFF02 << 112 | 5}
HOST = Host(
    frozenset({(V4, ME[V4]), (V6, ME[V6]), (V4, 0x7F000001), (V6, 1)}),
    frozenset({(V4, BROADCAST), (V4, 0x7FFFFFFF)}),
)
PORTS = (1, 79, 80, 81, 443, 999, 1000, 1434, 1999, 2000, 65535)
LENGTHS = {V4: (0, 8, 16, 23, 24, 31, 32), V6: (0, 16, 48, 64, 127, 128)}


@st.composite
def networks(draw: st.DrawFn) -> Network:
    family = draw(st.sampled_from(Family))
    length = draw(st.sampled_from(LENGTHS[family]))
    address = draw(st.sampled_from((ME[family], *OTHERS[family])))
    dropped = family.bits - length
    return Network(family, address >> dropped << dropped, length)


ADDRESSES = st.one_of(st.just(Keyword.ANY), st.just(Keyword.ME), networks())
RANGES = st.sampled_from(
    [PortRange(n, n) for n in (80, 443, 1434)]
    + [PortRange(1000, 1999), PortRange(80, 81), PortRange(1, 65535), PortRange(1434, 2000)]
)
PORT_LISTS = st.one_of(
    st.just(()), RANGES.map(lambda one: (one,)), st.just((PortRange(80, 80), PortRange(443, 443)))
)
PROTOCOLS = st.sampled_from([None, ICMP, 6, 17, 17, 6, 132, 1, 58, 47, 50, 255])


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    source = Endpoint(draw(ADDRESSES), draw(PORT_LISTS))
    destination = Endpoint(draw(ADDRESSES), draw(PORT_LISTS))
    protocol = draw(PROTOCOLS)
    if protocol is not None and protocol not in PROTOCOLS_WITH_PORTS:
        source, destination = Endpoint(source.address), Endpoint(destination.address)
    try:
        return Filter(source, destination, protocol, draw(st.booleans()))
    except InvalidInput:
        return Filter(Endpoint(), Endpoint(Keyword.ME), 17)


@st.composite
def in_force(draw: st.DrawFn, most: int = 8) -> list[InForce]:
    found = []
    for number in range(draw(st.integers(1, most))):
        dynamic = draw(st.booleans())
        origin = Origin("dynamic" if dynamic else "static", "" if dynamic else "P", f"r{number}")
        action = draw(st.sampled_from(Action))
        kind = draw(st.sampled_from([None, None, None, InterfaceType.LAN, InterfaceType.DIALUP]))
        found.append(InForce(origin, draw(filters()), action, kind))
    return found


@st.composite
def packets(draw: st.DrawFn, points: tuple[Point, ...] = tuple(Point)) -> Packet:
    point = draw(st.sampled_from(points))
    family = draw(st.sampled_from(Family))
    others = st.sampled_from(OTHERS[family])
    mine = st.just(ME[family])
    if point is Point.ARRIVING:
        source = draw(others)
        special = [MULTICAST[family], *([BROADCAST, 0xFFFFFFFF] if family is V4 else [])]
        destination = draw(st.one_of(mine, mine, others, st.sampled_from(special)))
    else:
        source, destination = draw(st.one_of(mine, mine, others)), draw(others)
    protocol = draw(st.sampled_from([1, 6, 6, 17, 17, 17, 47, 50, 58, 132, 255]))
    fragment = draw(st.integers(0, 5)) == 0 and point is Point.ARRIVING
    ports = (None, None)
    if protocol in PROTOCOLS_WITH_PORTS and not fragment:
        ports = (draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS)))  # type: ignore[assignment]
    packet = Packet(
        point,
        family,
        source,
        destination,
        protocol,
        *ports,
        later_fragment=fragment,
        icmp_type=draw(st.sampled_from([8, 128, 135])) if protocol in (1, 58) else None,
        hop_limit=draw(st.sampled_from([64, 255])),
    )
    if point is Point.LEAVING and draw(st.booleans()):
        arrived = Packet(Point.ARRIVING, family, draw(others), destination, protocol, *ports)
        packet = Packet(
            point,
            family,
            source,
            destination,
            protocol,
            *ports,
            icmp_type=packet.icmp_type,
            hop_limit=packet.hop_limit,
            arrived=arrived,
        )
    return packet
