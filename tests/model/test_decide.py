"""What filters mean: examples, each one sentence of the design."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsecd.errors import Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.protected_filters import BY_SETTINGS
from ipsecd.model.values import (
    ALWAYS,
    IPV6_EXTENSION_HEADERS,
    Action,
    Conditions,
    InForce,
    InterfaceType,
    Origin,
)

V4, V6 = Family.IPV4, Family.IPV6
BLOCK, PERMIT, AUDIT = Action.BLOCK, Action.PERMIT, Action.AUDIT
ME, PEER, OTHER = 0x0A000001, 0x0A000002, 0x0A000103
ME6, PEER6 = 0xFD09 << 112 | 1, 0xFD09 << 112 | 2
HOST = Host(frozenset({(V4, ME), (V6, ME6)}), frozenset({(V4, 0x0A0000FF)}))
FROM_PEER = Packet(Point.ARRIVING, V4, PEER, ME, 17, 4000, 1434)
FROM_PEER6 = Packet(Point.ARRIVING, V6, PEER6, ME6, 17, 4000, 1434)
TO_PEER = Packet(Point.SENDING, V4, ME, PEER, 17, 1434, 4000)


def in_force(
    action: Action, text: str, *, dynamic: bool = False, on: Conditions = ALWAYS
) -> InForce:
    origin = Origin("dynamic" if dynamic else "static", "" if dynamic else "P", text)
    return InForce(origin, parse_filter(text), action, on)


def block(text: str) -> InForce:
    return in_force(BLOCK, text)


def permit(text: str) -> InForce:
    return in_force(PERMIT, text)


def verdict(packet: Packet, *filters: InForce) -> Action:
    return decide(filters, packet, HOST).action


def winner(packet: Packet, *filters: InForce) -> InForce | None:
    """Who decides, which must not depend on the order the filters are given in."""
    deciding = decide(filters, packet, HOST).by
    assert decide(tuple(reversed(filters)), packet, HOST).by == deciding
    return deciding


def audit(text: str) -> InForce:
    return in_force(AUDIT, text)


@pytest.mark.parametrize(
    ("filters", "audited", "by"),
    [
        ((audit("*=0"),), 0, None),
        ((audit("10.0.0.2=0"), block("*=0")), 0, 1),
        ((audit("10.0.0.2=0"), permit("*=0")), 0, 1),
        ((block("10.0.0.2=0"), audit("*=0")), None, 0),
        ((permit("10.0.0.2=0"), audit("*=0")), None, 0),
        ((audit("10.0.0.2=0"), audit("*=0")), 0, None),
        ((audit("10.0.0.2=0"), permit("10.0.0.2=0")), 0, 1),
        ((audit("10.0.0.2=0"), block("10.0.0.2=0")), None, 1),
        ((audit("*=10.0.0.1"), block("10.0.0.2=*")), None, 1),
        ((in_force(AUDIT, "10.0.0.2=0", dynamic=True), block("10.0.0.2=0")), 0, 1),
        ((block("*=0"), audit("*=0::UDP"), permit("*=0:1434:UDP")), None, 2),
        ((audit("*=0:80:TCP"),), None, None),
    ],
)
def test_an_audit_counts_where_it_would_decide_as_a_block(
    filters: tuple[InForce, ...], audited: int | None, by: int | None
) -> None:
    """It decides nothing, so the others do; a block that is equal in all else comes before it."""
    for given in (filters, filters[::-1]):
        decision = decide(given, FROM_PEER, HOST)
        assert decision.audited is (None if audited is None else filters[audited])
        assert decision.by is (None if by is None else filters[by])
        assert decision.action is (PERMIT if by is None else filters[by].action)


def test_audits_alone_drop_nothing() -> None:
    """Not what cannot be read either, and what is exempt they do not count."""
    unread = replace(FROM_PEER, parsed=False)
    assert decide([audit("*=0")], unread, HOST) == Decision(PERMIT, "unparsable")
    looped = replace(FROM_PEER, interface_type=None)
    assert decide([audit("*=0")], looped, HOST) == Decision(PERMIT, "loopback")


def test_what_no_filter_matches_passes() -> None:
    """No filter, no opinion."""
    assert decide([block("*=0:80:TCP")], FROM_PEER, HOST) == Decision(PERMIT, "no filter")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (permit("10.0.0.2=0"), block("*=0")),
        (block("10.0.0.2=0"), permit("10.0.0.0/24=0")),
        (permit("10.0.0.2=0"), block("*=0:1434:UDP")),
        (permit("10.0.0.2=*:1434:UDP"), block("10.0.0.0/31=*:1434:UDP")),
        (permit("*=0::UDP"), block("*=0")),
        (permit("*=0:1434"), block("*=0")),
        (permit("*=0:1434:UDP"), block("*=0::UDP")),
        (permit("*=0:1434:UDP"), block("*=0:1400-1500:UDP")),
        (permit("*=0:1400-1500:UDP"), block("*=0:1000-1999:UDP")),
        (permit("*=0:1434:UDP"), block("*:4000=0:1000-1999:UDP")),
        (permit("*:4000=0:1434:UDP"), block("*=0:1434:UDP")),
        (in_force(PERMIT, "*=0:1434:UDP", on=Conditions(InterfaceType.LAN)), block("*=0:1434:UDP")),
        (in_force(PERMIT, "*=0:1434:UDP", dynamic=True), block("*=0:1434:UDP")),
        (
            in_force(PERMIT, "*=0", on=Conditions(InterfaceType.LAN)),
            in_force(BLOCK, "*=0", dynamic=True),
        ),
        (block("*=0:1434:UDP"), permit("*=0:1434:UDP")),
        (block("10.0.0.1=10.0.0.2"), permit("10.0.0.2+0")),
    ],
)
def test_the_more_specific_filter_decides_whatever_its_action(
    better: InForce, worse: InForce
) -> None:
    """Addresses, protocol, ports, interface, store and block, in this order, make the rank."""
    packet = TO_PEER if better.filter.source == parse_filter("10.0.0.1=*").source else FROM_PEER
    assert winner(packet, better, worse) == better


@pytest.mark.parametrize("text", ["*+0", "*+0:1434:UDP", "10.0.0.0/8+0:1000-2000:UDP"])
def test_what_the_settings_protect_outranks_everything_in_both_directions(text: str) -> None:
    """However wide it is and however narrow the block, of a policy or dynamic, on one link."""
    protected = InForce(BY_SETTINGS, parse_filter(text), PERMIT)
    on_link = Conditions(InterfaceType.LAN, opening=True)
    for packet, narrow in (
        (FROM_PEER, "10.0.0.2:4000=0:1434:UDP"),
        (TO_PEER, "0:1434=10.0.0.2:4000:UDP"),
    ):
        for store in ("static", "domain", "dynamic"):
            blocked = InForce(Origin(store, "", "R"), parse_filter(narrow), BLOCK, on_link)
            assert winner(packet, protected, blocked) == protected


def test_a_later_fragment_meets_only_protected_filters_without_ports() -> None:
    """It has no ports, as for any filter."""
    fragment = replace(FROM_PEER, source_port=None, destination_port=None, later_fragment=True)
    with_ports, without = (
        InForce(BY_SETTINGS, parse_filter(text), PERMIT) for text in ("*+0:1434:UDP", "*+0::UDP")
    )
    assert winner(fragment, with_ports, block("10.0.0.2=0")) == block("10.0.0.2=0")
    assert winner(fragment, without, block("10.0.0.2=0")) == without


def test_me_and_a_host_are_equally_specific() -> None:
    """``me`` counts as a full length, so block beats permit between the two."""
    assert verdict(FROM_PEER, permit("*=10.0.0.1"), block("*=0")) is BLOCK
    assert verdict(FROM_PEER, block("*=10.0.0.1"), permit("*=0")) is BLOCK


def test_the_beaten_filters_are_named_best_first() -> None:
    """All that matched is told, in the order of rank."""
    best, middle, last = permit("10.0.0.2=0:1434:UDP"), block("10.0.0.2=0"), permit("*=*")
    decision = decide([last, middle, best, block("*=0:80:TCP")], FROM_PEER, HOST)
    assert decision == Decision(PERMIT, "filter", best, (middle, last))


def test_one_way_is_one_way_and_mirrored_is_both() -> None:
    """``=`` leaves the answers alone, ``+`` does not."""
    assert verdict(FROM_PEER, block("*=0:1434:UDP")) is BLOCK
    assert verdict(TO_PEER, block("*=0:1434:UDP")) is PERMIT
    assert verdict(TO_PEER, block("*+0:1434:UDP")) is BLOCK
    assert verdict(FROM_PEER, block("*+0:1434:UDP")) is BLOCK


def test_no_address_covers_both_ip_versions() -> None:
    """IPv4 and IPv6 are equal citizens, but ``0.0.0.0/0`` is IPv4."""
    for packet in (FROM_PEER, FROM_PEER6):
        assert verdict(packet, block("*=0:1434:UDP")) is BLOCK
    assert verdict(FROM_PEER, block("0.0.0.0/0=0")) is BLOCK
    assert verdict(FROM_PEER6, block("0.0.0.0/0=0")) is PERMIT
    assert verdict(FROM_PEER6, block("[::]/0=0")) is BLOCK


def test_icmp_is_of_the_ip_version_and_a_number_is_exact() -> None:
    """``ICMP`` is 1 in IPv4 and 58 in IPv6; protocol 1 is never ICMPv6."""
    ping4 = Packet(Point.ARRIVING, V4, PEER, ME, 1, icmp_type=8)
    ping6 = Packet(Point.ARRIVING, V6, PEER6, ME6, 58, icmp_type=128)
    assert verdict(ping4, block("*=0::ICMP")) is BLOCK
    assert verdict(ping6, block("*=0::ICMP")) is BLOCK
    assert verdict(ping4, block("*=0::1")) is BLOCK
    assert verdict(ping6, block("*=0::1")) is PERMIT
    assert verdict(ping4, block("*=0::ICMPv6")) is PERMIT


def test_a_type_of_icmp_is_that_of_the_ip_version() -> None:
    """A name is the type of each IP version, a number is that number, a code is one of its type."""
    ping4 = Packet(Point.ARRIVING, V4, PEER, ME, 1, icmp_type=8)
    ping6 = Packet(Point.ARRIVING, V6, PEER6, ME6, 58, icmp_type=128)
    for text, of4, of6 in (
        ("*=0::ICMP/echo-request", BLOCK, BLOCK),
        ("*=0::ICMP/8", BLOCK, PERMIT),
        ("*=0::ICMP/128", PERMIT, BLOCK),
        ("*=0::ICMPv6/echo-request", PERMIT, BLOCK),
        ("*=0::1/echo-request", BLOCK, PERMIT),
        ("*=0::ICMP/echo-request/0", BLOCK, BLOCK),
        ("*=0::ICMP/echo-request/1", PERMIT, PERMIT),
        ("*=0::ICMP/echo-reply", PERMIT, PERMIT),
    ):
        assert (verdict(ping4, block(text)), verdict(ping6, block(text))) == (of4, of6), text


def test_type_and_code_outrank_a_type_and_a_type_outranks_none() -> None:
    """They rank where narrower destination ports do; a later fragment has neither."""
    packet = Packet(Point.ARRIVING, V4, PEER, ME, 1, icmp_type=3, icmp_code=4)
    assert verdict(packet, block("*=0::ICMP"), permit("*=0::ICMP/3")) is PERMIT
    assert verdict(packet, block("*=0::ICMP/3"), permit("*=0::ICMP/3/4")) is PERMIT
    assert verdict(packet, permit("*=0::ICMP/3/4"), block("10.0.0.2=0::ICMP")) is BLOCK
    fragment = Packet(Point.ARRIVING, V4, PEER, ME, 1, later_fragment=True)
    assert verdict(fragment, block("*=0::ICMP/3")) is PERMIT
    assert verdict(fragment, block("*=0::ICMP")) is BLOCK


def test_a_mirrored_filter_has_its_type_both_ways() -> None:
    """The answer to a message is another one, which has to be named."""
    ping = Packet(Point.ARRIVING, V4, PEER, ME, 1, icmp_type=8)
    sent = Packet(Point.SENDING, V4, ME, PEER, 1, icmp_type=8)
    for packet in (ping, sent):
        assert verdict(packet, block("0+*::ICMP/echo-request")) is BLOCK
        assert verdict(replace(packet, icmp_type=0), block("0+*::ICMP/echo-request")) is PERMIT


@pytest.mark.parametrize(("protocol", "action"), [(6, BLOCK), (17, BLOCK), (132, PERMIT)])
def test_ports_without_a_protocol_are_those_of_tcp_and_udp(protocol: int, action: Action) -> None:
    """SCTP has ports, and has to be named."""
    assert verdict(replace(FROM_PEER, protocol=protocol), block("*=0:1434")) is action


@pytest.mark.parametrize(
    ("port", "action"), [(999, PERMIT), (1000, BLOCK), (1999, BLOCK), (2000, PERMIT)]
)
def test_a_port_range_includes_both_ends(port: int, action: Action) -> None:
    """``1000-1999`` is a thousand ports."""
    packet = replace(FROM_PEER, destination_port=port)
    assert verdict(packet, block("*=0:1000-1999:UDP")) is action


@pytest.mark.parametrize("destination", [0x0A0000FF, 0xFFFFFFFF, 0xE00000FB, 0])
def test_me_as_destination_includes_broadcast_and_multicast(destination: int) -> None:
    """A worm that broadcasts reaches the service too."""
    packet = replace(FROM_PEER, destination=destination)
    assert verdict(packet, block("*=0:1434:UDP")) is BLOCK
    assert verdict(packet, block("*=10.0.0.1:1434:UDP")) is PERMIT


def test_what_this_host_sends_is_from_me_whatever_its_source() -> None:
    """An address may have gone meanwhile. A host that has none yet sends from the unspecified."""
    assert verdict(TO_PEER, block("0=*")) is BLOCK
    assert verdict(replace(TO_PEER, source=0x0A0000FF), block("0=*")) is BLOCK
    assert verdict(replace(TO_PEER, source=0), block("0=*")) is PERMIT


def test_what_leaves_is_from_me_only_with_an_own_address() -> None:
    """What is forwarded under a broadcast address is not mine."""
    leaving = replace(TO_PEER, point=Point.LEAVING)
    assert verdict(leaving, block("0=*")) is BLOCK
    assert verdict(replace(leaving, source=0x0A0000FF), block("0=*")) is PERMIT


def test_to_me_is_judged_on_arrival_and_from_me_on_the_way_out() -> None:
    """A packet with a forged source of mine is not from me when it arrives."""
    assert verdict(replace(FROM_PEER, source=ME), block("0=*")) is PERMIT
    assert verdict(replace(TO_PEER, destination=ME), block("*=0")) is PERMIT


def test_what_names_no_me_is_judged_wherever_it_goes() -> None:
    """Forwarded packets on arrival, and what the host sends itself."""
    forwarded = replace(FROM_PEER, destination=OTHER)
    assert verdict(forwarded, block("10.0.0.2=10.0.1.0/24")) is BLOCK
    assert verdict(forwarded, block("*=0")) is PERMIT
    assert verdict(TO_PEER, block("*=10.0.0.2")) is BLOCK


def test_a_container_that_leaves_under_my_address_is_me() -> None:
    """What is forwarded and then leaves as mine is blocked as mine."""
    arrived = replace(FROM_PEER, source=OTHER, destination=PEER)
    leaving = Packet(Point.LEAVING, V4, ME, PEER, 17, 4000, 1434, arrived=arrived)
    assert verdict(leaving, block("0=*")) is BLOCK
    assert verdict(leaving, block("*=10.0.0.2")) is PERMIT
    assert verdict(leaving, block("0=*"), permit("10.0.1.3=10.0.0.2")) is PERMIT
    assert verdict(leaving, block("0=10.0.0.2"), permit("10.0.1.0/24=10.0.0.2")) is BLOCK


def test_a_later_fragment_matches_only_filters_without_ports() -> None:
    """It has no ports, and its payload is never read as ports."""
    fragment = replace(FROM_PEER, source_port=None, destination_port=None, later_fragment=True)
    assert verdict(fragment, block("*=0:1434:UDP")) is PERMIT
    assert verdict(fragment, block("*=0:1-65535:UDP")) is PERMIT
    assert verdict(fragment, block("*=0::UDP")) is BLOCK


@pytest.mark.parametrize("number", sorted(IPV6_EXTENSION_HEADERS))
def test_a_later_fragment_may_have_no_protocol(number: int) -> None:
    """In IPv6 the first header of the datagram can be an extension header, and no filter's."""
    fragment = Packet(Point.ARRIVING, Family.IPV6, 2, 1, number, later_fragment=True)
    host = Host(frozenset({(Family.IPV6, 1)}))

    def blocked(text: str) -> bool:
        return decide([in_force(BLOCK, text)], fragment, host).action is BLOCK

    assert blocked("*=0")
    assert not blocked(f"*=0::{number}")
    assert not blocked("*=0::UDP")
    assert not blocked("*=0:1434:UDP")


def test_an_interface_type_limits_a_filter() -> None:
    """``dialup`` says nothing about a LAN."""
    limited = in_force(BLOCK, "*=0", on=Conditions(InterfaceType.DIALUP))
    assert verdict(FROM_PEER, limited) is PERMIT
    assert verdict(replace(FROM_PEER, interface_type=InterfaceType.DIALUP), limited) is BLOCK


def test_loopback_is_not_filtered() -> None:
    """Traffic on ``lo`` passes, even what cannot be parsed."""
    packet = replace(FROM_PEER, interface_type=None, parsed=False)
    assert decide([block("*=*")], packet, HOST) == Decision(PERMIT, "loopback")


def test_what_cannot_be_parsed_is_dropped_while_anything_is_blocked() -> None:
    """It could be anything; the configuration can let it through."""
    packet = replace(FROM_PEER, parsed=False)
    assert decide([block("*=0:1:UDP")], packet, HOST) == Decision(BLOCK, "unparsable")
    assert decide([permit("*=0")], packet, HOST).action is PERMIT
    passed = decide([block("*=0:1:UDP")], packet, HOST, drop_unparsable=False)
    assert passed == Decision(PERMIT, "unparsable")
    leaving = replace(packet, point=Point.LEAVING)
    assert decide([block("*=0:1:UDP")], leaving, HOST) == Decision(PERMIT, "unparsable")


@pytest.mark.parametrize(
    ("icmp_type", "hop_limit", "action"),
    [
        (133, 255, PERMIT),
        (136, 255, PERMIT),
        (135, 64, BLOCK),
        (128, 255, BLOCK),
        (130, 1, PERMIT),
        (131, 1, PERMIT),
        (143, 1, PERMIT),
        (143, 255, BLOCK),
        (135, 1, BLOCK),
    ],
)
def test_neighbour_discovery_of_this_link_is_essential(
    icmp_type: int, hop_limit: int, action: Action
) -> None:
    """Block everything, and the IPv6 link lives; a ping and a forged hop limit do not pass."""
    packet = Packet(Point.ARRIVING, V6, PEER6, ME6, 58, icmp_type=icmp_type, hop_limit=hop_limit)
    assert decide([block("*+*")], packet, HOST, ESSENTIALS).action is action
    assert decide([block("*+*")], packet, HOST).action is BLOCK


@pytest.mark.parametrize(
    ("family", "number", "icmp_type", "code", "action"),
    [
        (V4, 1, 3, 4, PERMIT),
        (V4, 1, 3, 3, BLOCK),
        (V4, 1, 2, 4, BLOCK),
        (V6, 58, 2, 0, PERMIT),
        (V6, 58, 3, 4, BLOCK),
        (V6, 58, 1, 0, BLOCK),
    ],
)
@pytest.mark.parametrize("point", Point)
def test_path_mtu_is_essential(
    family: Family, number: int, icmp_type: int, code: int, action: Action, point: Point
) -> None:
    """What says that a packet was too big passes, to this host, from it and through it."""
    here, there = (ME, PEER) if family is V4 else (ME6, PEER6)
    source, destination = (there, here) if point is Point.ARRIVING else (here, there)
    packet = Packet(point, family, source, destination, number, icmp_type=icmp_type, icmp_code=code)
    decision = decide([block("*+0"), block("*+*")], packet, HOST, ESSENTIALS)
    assert decision.action is action


@pytest.mark.parametrize(
    ("family", "client", "server"), [(V4, 68, 67), (V6, 546, 547)], ids=["DHCP", "DHCPv6"]
)
def test_the_hosts_own_dhcp_client_is_essential(family: Family, client: int, server: int) -> None:
    """Answers come in and questions go out; this host as a server gets nothing."""
    here, there = (ME, PEER) if family is V4 else (ME6, PEER6)
    answer = Packet(Point.ARRIVING, family, there, here, 17, server, client)
    question = Packet(Point.SENDING, family, here, there, 17, client, server)
    served = Packet(Point.ARRIVING, family, there, here, 17, client, server)
    decisions = [decide([block("*+*")], p, HOST, ESSENTIALS) for p in (answer, question, served)]
    assert [decision.action for decision in decisions] == [PERMIT, PERMIT, BLOCK]
    assert decisions[0].reason == "dhcp-client"


def test_the_kerberos_exemption_lets_past_whoever_sends_from_port_88() -> None:
    """The hole that the article warns about is there only when it is asked for."""
    packet = replace(FROM_PEER, source_port=88)
    assert verdict(packet, block("*=0")) is BLOCK
    assert decide([block("*=0")], packet, HOST, NO_DEFAULT_EXEMPT[0]).reason == "kerberos"
    assert decide([block("*=0")], packet, HOST, NO_DEFAULT_EXEMPT[1]).action is BLOCK


def test_an_ipv6_extension_header_is_never_the_protocol() -> None:
    """They are seen through, so a filter for one of them is about IPv4 only."""
    assert verdict(replace(FROM_PEER6, protocol=60), block("*=0::60")) is PERMIT
    fragmentless = Packet(Point.ARRIVING, V4, PEER, ME, 60)
    assert verdict(fragmentless, block("*=0::60")) is BLOCK


def test_a_name_without_addresses_is_not_decided_about() -> None:
    """A name that was never resolved must not silently match nothing."""
    with pytest.raises(Refused, match=r"example\.com"):
        decide([block("example.com=0")], FROM_PEER, HOST)


def test_dynamic_rules_of_the_article_let_ping_and_dns_through() -> None:
    """Block all, then permit ping and a DNS server, typed as the scripts have them."""
    rules = block("0+*"), permit("0+*::ICMP"), permit("0:53+*::UDP")
    assert verdict(FROM_PEER, *rules) is BLOCK
    assert verdict(replace(FROM_PEER, destination_port=53), *rules) is PERMIT
    assert verdict(replace(TO_PEER, source_port=53), *rules) is PERMIT
    assert verdict(Packet(Point.ARRIVING, V4, PEER, ME, 1, icmp_type=8), *rules) is PERMIT


def test_who_names_a_container_means_it_more_than_who_names_the_host_it_leaves_as() -> None:
    """At one rank a permit of the original source beats a block of what leaves as this host's."""
    arrived = Packet(Point.ARRIVING, V4, 0x0A580005, PEER, 17, 4000, 1434)
    leaving = replace(arrived, point=Point.LEAVING, source=ME, arrived=arrived)
    worm = block("0=*:1434:UDP")
    assert verdict(leaving, worm, permit("10.88.0.5=*:1434:UDP")) is PERMIT
    assert verdict(leaving, worm, permit("10.88.0.0/16=*:1434:UDP")) is BLOCK
    assert verdict(leaving, worm, permit("0=*:1434:UDP")) is BLOCK
    dynamic = in_force(BLOCK, "0=*:1434:UDP", dynamic=True)
    assert verdict(leaving, dynamic, permit("10.88.0.5=*:1434:UDP")) is BLOCK
