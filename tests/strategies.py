"""Hypothesis strategies: filters over a small world, and packets from their boundaries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language.expectations import parse_expectation
from ipsecd.model.addresses import Address, Family, HostName, Keyword, ListName, Network, Process
from ipsecd.model.expectations import Expectation
from ipsecd.model.icmp import NAMES as ICMP_NAMES
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.protected_filters import BY_SETTINGS
from ipsecd.model.values import (
    ALWAYS,
    ICMP,
    ICMP_VERSIONS,
    IPV6_EXTENSION_HEADERS,
    PROTOCOLS_WITH_PORTS,
    Action,
    Conditions,
    Endpoint,
    Filter,
    IcmpOfFamily,
    InForce,
    InterfaceType,
    LinkName,
    Origin,
    Policy,
    PortRange,
    Rule,
    Store,
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


WIDE = (Network(V4, 0, 1), Network(V6, 0, 1), Network(V6, 0xFD << 120, 8))

ADDRESSES = st.one_of(st.just(Keyword.ANY), st.just(Keyword.ME), networks())
RANGES = st.sampled_from(
    [PortRange(n, n) for n in (80, 443, 1434)]
    + [PortRange(1000, 1999), PortRange(80, 81), PortRange(1, 65535), PortRange(1434, 2000)]
)
PORT_LISTS = st.one_of(
    st.just(()),
    RANGES.map(lambda port_range: (port_range,)),
    st.just((PortRange(80, 80), PortRange(443, 443))),
)
RARE = (0, 2, 4, 33, 41, 43, 44, 51, 59, 60, 89, 103, 135, 136, 253)
COMMON = (1, 6, 6, 17, 17, 17, 47, 50, 58, 132, 255)
PROTOCOLS = st.one_of(
    st.sampled_from([None, ICMP, 6, 17, 17, 6, 132, 1, 58, 47, 50, 255]), st.sampled_from(RARE)
)


TYPES = (0, 2, 3, 3, 8, 11, 128, 135, 143)
MESSAGES = st.one_of(
    st.sampled_from(sorted(ICMP_NAMES)).map(lambda name: IcmpMessage(*ICMP_NAMES[name])),
    st.builds(
        lambda number, code: IcmpMessage(number, number, code),
        st.sampled_from(TYPES),
        st.sampled_from([None, 0, 4, 255]),
    ),
    st.just(IcmpMessage(8, 128, 0)),
    st.just(IcmpMessage(3, 1)),
)


def message_for(draw: st.DrawFn, protocol: int | IcmpOfFamily | None) -> IcmpMessage | None:
    """A message that a filter for `protocol` can ask for, or none."""
    versions = ICMP_VERSIONS.get(protocol)
    message = draw(MESSAGES) if versions and draw(st.booleans()) else None
    if message and versions and any(message.number(version) is not None for version in versions):
        return message
    return None


NAMES = st.sampled_from([HostName(n) for n in ("example.com", "cafe", "a-b.example.", "tcp")])


LUCK = st.integers(0, (1 << 64) - 1).map(random.Random)
"""What packets are made of: a draw for each of a dozen fields would take longer than most tests
with a packet. A packet needs no shrinking, and lists of them shrink."""

LIST_NAMES = ("a", "b", "no-such-list")
LISTED_ADDRESSES = st.one_of(
    st.sampled_from([ListName(name) for name in (*LIST_NAMES, "a", "a", "b")]),
    st.sampled_from([*Keyword, ListName("a"), ListName("b")]),
    networks(),
)


ENTRIES = tuple(
    Network(family, address >> family.bits - length << family.bits - length, length)
    for family, lengths in ((V4, (0, 16, 24, 31, 32)), (V6, (0, 64, 128)))
    for length in lengths
    for address in (ME[family], *OTHERS[family])
)


def lists() -> st.SearchStrategy[dict[str, AddressList]]:
    """Lists by name, whose entries overlap and adjoin; filters may name one more."""
    return LUCK.map(_lists)


def _lists(luck: random.Random) -> dict[str, AddressList]:
    return {
        name: listed(luck.sample(ENTRIES, luck.choice((0, 1, 4, 12, 20))))
        for name in LIST_NAMES[: luck.choice((0, 1, 2, 2, 2))]
    }


def changing_lists() -> st.SearchStrategy[tuple[dict[str, AddressList], ...]]:
    """Lists as they are one after the other: mostly with other entries, few with other lengths."""

    def make(luck: random.Random) -> tuple[dict[str, AddressList], ...]:
        first = _lists(luck)
        second = {
            name: listed(
                luck.choice([other for other in ENTRIES if other.length == entry.length])
                for entry in members.networks()
                if luck.randrange(8)
            )
            for name, members in first.items()
        }
        return first, second, luck.choice((first, _lists(luck)))

    return LUCK.map(make)


@st.composite
def filters(draw: st.DrawFn, *, names: bool = False, listing: bool = False) -> Filter:
    """A filter over the small world; with DNS names or lists only when asked for."""
    addresses: st.SearchStrategy[Address] = st.one_of(ADDRESSES, NAMES) if names else ADDRESSES
    if listing:
        addresses = LISTED_ADDRESSES
        if draw(st.booleans()):
            # Only where nothing else keeps packets from matching do the entries decide.
            ends = [Endpoint(draw(addresses)), Endpoint(Keyword.ME)]
            if draw(st.booleans()):
                ends = [Endpoint(), Endpoint(draw(addresses))]
            return Filter(ends[0], ends[1], mirrored=draw(st.booleans()))
    source = Endpoint(draw(addresses), draw(PORT_LISTS))
    destination = Endpoint(draw(addresses), draw(PORT_LISTS))
    protocol = draw(PROTOCOLS)
    if protocol is not None and protocol not in PROTOCOLS_WITH_PORTS:
        source, destination = Endpoint(source.address), Endpoint(destination.address)
    try:
        message = message_for(draw, protocol)
        return Filter(source, destination, protocol, draw(st.booleans()), message)
    except InvalidInput:
        return Filter(Endpoint(), Endpoint(Keyword.ME), 17)


LINKS = ("eth1", "wg0", "wg1")
"""Names of links by which packets come and go."""


def conditions() -> st.SearchStrategy[Conditions]:
    """What a rule asks besides its filters; most ask nothing."""
    nothing = st.just(ALWAYS)
    names = st.sampled_from(["eth1", "wg*", "wg0", "w*", "dummy0"]).map(LinkName)
    interfaces = st.one_of(st.none(), st.sampled_from(InterfaceType), names)
    return st.one_of(nothing, nothing, st.builds(Conditions, interfaces, st.booleans()))


def types_of_links() -> st.SearchStrategy[Conditions]:
    """Conditions that do not depend on what came before a packet, nor on how links are called."""
    kinds = st.sampled_from([None, None, None, *InterfaceType])
    return kinds.map(lambda kind: Conditions(kind) if kind else ALWAYS)


def like(draw: st.DrawFn, flt: Filter, listing: bool) -> Filter:
    """A filter that differs from another in one field at most; in an address if it is `listing`."""
    part = draw(st.sampled_from(["", "source", "destination", "protocol"]))
    try:
        if listing and part in {"source", "destination"} and draw(st.booleans()):
            end = getattr(flt, part)
            return replace(flt, **{part: replace(end, address=draw(LISTED_ADDRESSES))})
        if part == "protocol":
            return replace(flt, protocol=draw(PROTOCOLS))
        if part:
            end = getattr(flt, part)
            return replace(flt, **{part: replace(end, ports=draw(PORT_LISTS))})
    except InvalidInput:
        return flt
    return flt


def conditions_of_links() -> st.SearchStrategy[Conditions]:
    """Types of links, and names of which some are that of the wire."""
    names = st.sampled_from(["wire", "w*", "wi*", "wired", "x*"]).map(LinkName)
    return st.one_of(types_of_links(), types_of_links(), names.map(Conditions))


STORES = (*["static"] * 3, *["dynamic"] * 3, "configuration")
"""Where filters in force are from; few are protected by the settings."""


def protected(flt: Filter) -> InForce:
    """A filter as the settings protect it: in both directions, whatever the link."""
    return InForce(BY_SETTINGS, replace(flt, mirrored=True), Action.PERMIT)


@st.composite
def in_force(
    draw: st.DrawFn,
    most: int = 8,
    *,
    asked: st.SearchStrategy[Conditions] | None = None,
    listing: bool = False,
) -> list[InForce]:
    """Filters in force; what rules ask besides them is `asked`. They name lists if `listing`."""
    drawn: list[InForce] = []
    for number in range(draw(st.integers(1, most))):
        store = draw(st.sampled_from(STORES))
        action = draw(st.sampled_from(Action))
        policy = "P" if store == "static" else ""
        origin = Origin.of(Store(store), policy, f"r{number}", action)
        # Of filters that are nearly the same, only the order of precedence says which decides.
        near = bool(drawn) and draw(st.booleans())
        of_others = draw(st.sampled_from(drawn)).filter if near else None
        flt = like(draw, of_others, listing) if of_others else draw(filters(listing=listing))
        if store == "configuration":
            drawn.append(protected(flt))
            continue
        drawn.append(InForce(origin, flt, action, draw(conditions() if asked is None else asked)))
    return drawn


@st.composite
def lists_in_force(draw: st.DrawFn, asked: st.SearchStrategy[Conditions]) -> list[InForce]:
    """Blocks and audits of a policy by lists, so wide that packets match, and few other filters.

    Programs know all that these filters ask. What rules ask besides them is `asked`.
    """
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        listed_end = Endpoint(ListName(draw(st.sampled_from(LIST_NAMES[:2]))))
        ends = draw(st.permutations([listed_end, Endpoint(Keyword.ME)]))
        flt = Filter(ends[0], ends[1], mirrored=draw(st.booleans()))
        action = draw(st.sampled_from([Action.BLOCK, Action.BLOCK, Action.AUDIT]))
        origin = Origin.of(Store.STATIC, "P", f"l{number}", action)
        drawn.append(InForce(origin, flt, action))
    return drawn + draw(in_force(2, asked=asked, listing=True))


@st.composite
def senders_in_force(
    draw: st.DrawFn, senders: Sequence[Process], asked: st.SearchStrategy[Conditions]
) -> list[InForce]:
    """Filters by the sender and for all that this host sends, so wide that packets match.

    What rules ask besides them is `asked`.
    """
    drawn = draw(in_force(2, asked=asked))
    for number in range(draw(st.integers(2, 6))):
        action = draw(st.sampled_from(Action))
        store, policy = draw(st.sampled_from([(Store.DYNAMIC, ""), (Store.STATIC, "P")]))
        origin = Origin.of(store, policy, f"s{number}", action)
        ports = draw(st.sampled_from([(), (), (PortRange(1, 65535),), (PortRange(80, 443),)]))
        sources: list[Address] = [*senders, Keyword.ME]
        targets: list[Address] = [Keyword.ANY, Keyword.ANY, *WIDE]
        flt = Filter(
            Endpoint(draw(st.sampled_from(sources))),
            Endpoint(draw(st.sampled_from(targets)), ports),
            draw(st.sampled_from([6, 17] if ports else [None, 6, 17])),
        )
        drawn.append(InForce(origin, flt, action, draw(asked)))
    return drawn


@st.composite
def ports_in_force(draw: st.DrawFn) -> list[InForce]:
    """Blocks of ports for everybody, as most policies have them, and few other filters."""
    blocks = [
        InForce(
            Origin("static", "P", f"p{number}"),
            Filter(
                Endpoint(),
                Endpoint(
                    draw(st.sampled_from([Keyword.ME, Keyword.ME, Keyword.ANY])),
                    (PortRange(port, port),),
                ),
                draw(st.sampled_from([6, 17])),
                mirrored=False,
            ),
            Action.BLOCK,
        )
        for number, port in enumerate(draw(st.lists(st.sampled_from(PORTS), min_size=1)))
    ]
    others = draw(in_force(1)) if draw(st.booleans()) else []
    if draw(st.booleans()):
        others.append(protected(like(draw, draw(st.sampled_from(blocks)).filter, listing=False)))
    return blocks + others


def packets(points: tuple[Point, ...] = tuple(Point)) -> st.SearchStrategy[Packet]:
    """Packets among the addresses, ports and protocols that filters here name."""
    return LUCK.map(lambda luck: _packet(luck, points))


def _packet(luck: random.Random, points: tuple[Point, ...]) -> Packet:
    choose = luck.choice
    point, family = choose(points), choose(tuple(Family))
    mine, others = (ME[family],), OTHERS[family]
    if point is Point.ARRIVING:
        special = (MULTICAST[family], *((BROADCAST, 0xFFFFFFFF) if family is V4 else ()))
        source, destination = choose(others), choose(choose((mine, mine, others, special)))
    else:
        source, destination = choose(choose((mine, mine, others))), choose(others)
    protocol = choose(choose((COMMON, RARE)))
    fragment = luck.randrange(6) == 0 and point is Point.ARRIVING
    if family is V6 and protocol in IPV6_EXTENSION_HEADERS and not fragment:
        protocol = 17
    with_ports = protocol in PROTOCOLS_WITH_PORTS and not fragment
    packet = Packet(
        point,
        family,
        source,
        destination,
        protocol,
        choose(PORTS) if with_ports else None,
        choose(PORTS) if with_ports else None,
        later_fragment=fragment,
        hop_limit=choose((64, 255, 1)),
        interface=choose(LINKS),
        opening=choose((True, False)),
    )
    packet = _with_message(luck, packet, TYPES)
    if point is Point.LEAVING and choose((True, False)):
        arrived = replace(packet, point=Point.ARRIVING, source=choose(others), hop_limit=64)
        packet = replace(packet, arrived=arrived)
    return packet


def _with_message(luck: random.Random, packet: Packet, types: Sequence[int]) -> Packet:
    """The packet with a type and code, if it is whole and of ICMP."""
    if packet.later_fragment or packet.protocol != ICMP.number(packet.family):
        return packet
    code = luck.choice((0, 0, 1, 4, 255))
    return replace(packet, icmp_type=luck.choice(types), icmp_code=code)


@st.composite
def wide_networks(draw: st.DrawFn) -> Network:
    """Any network, except IPv4 addresses that are mapped into IPv6, which no text can name."""
    family = draw(st.sampled_from(Family))
    dropped = family.bits - draw(st.integers(0, family.bits))
    address = draw(st.integers(0, (1 << family.bits) - 1)) >> dropped << dropped
    if family is V6 and address >> 32 == 0xFFFF:
        address |= 1 << 127
    return Network(family, address, family.bits - dropped)


@st.composite
def wide_ports(draw: st.DrawFn) -> tuple[PortRange, ...]:
    """Up to four disjoint port ranges, anywhere."""
    bounds = sorted(draw(st.sets(st.integers(1, 65535), max_size=8)))
    pairs = [PortRange(*bounds[n : n + 2]) for n in range(0, len(bounds) - 1, 2)]
    single = [PortRange(bounds[-1], bounds[-1])] if len(bounds) % 2 else []
    return (*pairs, *single)


@st.composite
def wide_filters(draw: st.DrawFn, *, names: bool = True) -> Filter:
    """Any filter that text can name."""
    words = st.sampled_from(Keyword)
    lists_too = st.sampled_from([ListName("a"), ListName("cafe"), ListName("A.b-c_9")])
    addresses = st.one_of(words, wide_networks(), *([NAMES, lists_too] if names else []))
    protocol = draw(st.one_of(st.none(), st.just(ICMP), st.integers(0, 255), st.just(17)))
    ports = protocol is None or protocol in PROTOCOLS_WITH_PORTS
    ends = [
        Endpoint(draw(addresses), draw(wide_ports()) if ports and draw(st.booleans()) else ())
        for _ in range(2)
    ]
    try:
        message = message_for(draw, protocol)
        return Filter(ends[0], ends[1], protocol, draw(st.booleans()), message)
    except InvalidInput:
        return Filter(Endpoint(), ends[1], 6 if ports else 47, draw(st.booleans()))


def _name(text: str) -> bool:
    return text.isprintable() and text == text.strip()


rule_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    _name
)
"""Names that a policy or rule can have."""
descriptions = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def rules(draw: st.DrawFn, *, names: bool = False, shared: bool = False) -> Rule:
    """A rule of one to four filters; DNS names only when asked for.

    If it may have `shared` filters, it has them now and then, and then may have none at all.
    """
    filter_list = draw(st.one_of(st.just(""), rule_names)) if shared else ""
    least = 0 if filter_list else 1
    members = draw(
        st.lists(st.one_of(filters(), wide_filters(names=names)), min_size=least, max_size=4)
    )
    action = draw(st.sampled_from(Action))
    rule = Rule(draw(rule_names), tuple(members), action, draw(conditions()), filter_list)
    if not filter_list:
        return rule
    return replace(rule, filter_action=draw(rule_names), description=draw(descriptions))


_SIDES = {
    "4": ("203.0.113.7", "10.0.0.1", "me", "224.0.0.1"),
    "6": ("2001:db8::1", "fd09::2", "me", "::ffff:0:1"),
}


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    """Any form that an expectation can have, in one of several spellings."""
    sides = [
        draw(st.sampled_from(_SIDES[version])) for version in draw(st.sampled_from(["44", "66"]))
    ]
    tail = draw(st.sampled_from(["", " fragment", "  in eth0", " out ppp0", " in lo"]))
    if "fragment" not in tail and draw(st.booleans()):
        name = draw(st.sampled_from(["tcp", "UDP", "17", "sctp"]))
        source_ports = st.one_of(st.none(), st.integers(0, 65535))
        ports = (draw(source_ports), draw(st.integers(0, 65535)))
        sides = [
            (f"[{side}]" if ":" in side else side) + ("" if port is None else f":{port}")
            for side, port in zip(sides, ports, strict=True)
        ]
    else:
        name = draw(st.sampled_from(["icmp", "47", "ESP", "17" if "frag" in tail else "ICMP"]))
        if "frag" not in tail and name.casefold() == "icmp":
            name += draw(st.sampled_from(["", "/echo-request", "/ping/0", "/Redirect/1", "/200/7"]))
    if sides[0].startswith("me") and " in " not in tail:
        tail += draw(st.sampled_from(["", " by service:Web.service", " by cgroup:/a/b"]))
    tail += draw(st.sampled_from(["", "", " opening", "  reply", " established"]))
    verdict = draw(st.sampled_from(["block", "Permit  "]))
    return parse_expectation(f"{verdict} {name} {sides[0]} > {sides[1]}{tail}")


@st.composite
def policies(
    draw: st.DrawFn, *, names: bool = False, expect: bool = False, shared: bool = False
) -> Policy:
    """A policy of up to four rules; DNS names and expectations only when asked for.

    With `shared` there may be shared filters in it, and rules that are switched off.
    """
    one = rules(names=names, shared=shared)
    drawn = draw(st.lists(one, max_size=4, unique_by=lambda rule: rule.name))
    expected: list[Expectation] = []
    if expect:
        expected = draw(st.lists(expectations(), max_size=4, unique_by=attrgetter("text")))
    audit = draw(st.sampled_from([False, False, False, True]))
    rests = draw(st.sampled_from([0, 0, 1, 2, 4])) if shared else 0
    head = (draw(rule_names), tuple(drawn[rests:]), draw(descriptions))
    return Policy(*head, tuple(expected), audit, tuple(drawn[:rests]))


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """A host with loopback addresses and up to three others, in one or both IP versions."""
    pool = [(family, value) for family in Family for value in (ME[family], *OTHERS[family][:2])]
    own = draw(st.sets(st.sampled_from(pool), max_size=3))
    return Host(frozenset({(V4, 0x7F000001), (V6, 1), *own}), frozenset({(V4, BROADCAST)}))


def packets_for(policy: Policy, host: Host = HOST) -> st.SearchStrategy[Packet]:
    """Packets from the boundaries of the policy's filters, one step in or out of each."""
    members = [flt for rule in policy.rules for flt in rule.filters]
    ends = [end for flt in members for end in (flt.source, flt.destination)]
    named = [p for flt in members for p in flt.protocols if p is not None]
    ports = _boundary_ports(ends)
    of_families = {}
    for family in Family:
        numbers = {n.number(family) if isinstance(n, IcmpOfFamily) else n for n in named}
        of_families[family] = (
            _boundary_addresses(ends, family, host),
            sorted({1, 6, 17, 47, 58} | numbers),
            _boundary_types(members, family),
        )

    def make(luck: random.Random) -> Packet:
        choose = luck.choice
        family = choose(tuple(Family))
        addresses, protocols, types = of_families[family]
        protocol = choose(protocols)
        fragment = luck.randrange(8) == 0
        with_ports = protocol in PROTOCOLS_WITH_PORTS and not fragment
        packet = Packet(
            choose(tuple(Point)),
            family,
            choose(addresses),
            choose(addresses),
            protocol,
            choose(ports) if with_ports else None,
            choose(ports) if with_ports else None,
            interface_type=choose((InterfaceType.LAN, InterfaceType.DIALUP, None)),
            later_fragment=fragment,
            hop_limit=choose((64, 255, 1)),
            interface=choose(LINKS),
            opening=choose((True, False)),
        )
        return _with_message(luck, packet, types)

    return LUCK.map(make)


def _boundary_addresses(ends: Sequence[Endpoint], family: Family, host: Host) -> list[int]:
    boundaries = {value for of, value in (*host.addresses, *host.broadcasts) if of is family}
    boundaries |= {ME[family], OTHERS[family][0], MULTICAST[family]}
    for end in ends:
        networks = end.address.addresses if isinstance(end.address, HostName) else (end.address,)
        for network in networks:
            if isinstance(network, Network) and network.family is family:
                last = network.address | ((1 << (family.bits - network.length)) - 1)
                boundaries |= {network.address - 1, network.address, last, last + 1}
    return sorted(value for value in boundaries if 0 <= value < 1 << family.bits)


def _boundary_types(members: Sequence[Filter], family: Family) -> list[int]:
    boundaries = {8, 128, 135}
    for flt in members:
        number = flt.message.number(family) if flt.message else None
        if number is not None:
            boundaries |= {number - 1, number, number + 1}
    return sorted(number for number in boundaries if 0 <= number <= 255)


def _boundary_ports(ends: Sequence[Endpoint]) -> list[int]:
    boundaries = {1, 80, 65535}
    for end in ends:
        for ports in end.ports:
            boundaries |= {ports.first - 1, ports.first, ports.last, ports.last + 1}
    return sorted(port for port in boundaries if 0 <= port <= 65535)
