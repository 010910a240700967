"""Quarantine: whatever else is permitted, nothing but the operator's own permits holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family, Keyword, Network, Process, Selector
from ipsecd.model.decide import decide
from ipsecd.model.inventory import Container, Inventory, resolved
from ipsecd.model.packets import Packet, Point
from ipsecd.model.quarantine import Permit, _intersection, parts_of_quarantine
from ipsecd.model.values import (
    ALWAYS,
    Action,
    Conditions,
    Filter,
    InForce,
    InterfaceType,
    Origin,
)
from tests.strategies import HOST, ME, conditions, filters, packets

V4 = Family.IPV4
BOX, OTHER = 0x0A580005, 0xCB007107
WEB = Inventory((Container("a" * 64, "web", networks={"front": (Network(V4, BOX, 32),)}),))
LAN = Conditions(InterfaceType.LAN)


def in_quarantine(text: str, operators: list[Filter], others: list[Permit]) -> list[InForce]:
    """What is in force: the permits of others, static and dynamic, and the quarantine."""
    who = parse_address(text)
    assert who is Keyword.ME or isinstance(who, Selector)
    force = [
        InForce(
            Origin(store, "P" if store == "static" else "", f"other{number}"),
            flt,
            Action.PERMIT,
            kind,
        )
        for store in ("static", "dynamic")
        for number, (flt, kind) in enumerate(others)
    ]
    force += [
        InForce(Origin("dynamic", "", part.name), flt, part.action, part.conditions)
        for part in parts_of_quarantine(who, operators, others)
        for flt in part.filters
    ]
    return list(resolved(force, WEB))


def packet(source: int, destination: int, port: int, protocol: int = 6) -> Packet:
    point = Point.SENDING if source == ME[V4] else Point.ARRIVING
    return Packet(point, V4, source, destination, protocol, 4000, port)


@pytest.mark.parametrize(
    ("permitted", "kind", "sent"),
    [
        ("container:web=*:443:TCP", LAN, packet(BOX, OTHER, 443)),
        ("*=*:443:TCP", LAN, packet(BOX, OTHER, 443)),
        ("203.0.113.0/24+container:web:443:TCP", ALWAYS, packet(OTHER, BOX, 443)),
        ("10.88.0.5=203.0.113.7:443:TCP", LAN, packet(BOX, OTHER, 443)),
    ],
)
def test_no_permit_of_others_holds_for_a_container(
    permitted: str, kind: Conditions, sent: Packet
) -> None:
    """Not one for a type of interface, nor a dynamic one; it would have held without quarantine."""
    force = in_quarantine("container:web", [], [(parse_filter(permitted), kind)])
    decision = decide(force, sent, HOST)
    assert decision.action is Action.BLOCK


def test_a_service_of_a_host_in_quarantine_sends_nothing() -> None:
    """A permit of what sends is more specific than one of the host, and blocked as such."""
    mailer = parse_filter("service:mailer.service=*:25:TCP")
    sender = mailer.source.address
    assert isinstance(sender, Process)
    sent = Packet(Point.SENDING, V4, ME[V4], OTHER, 6, 4000, 25, processes=frozenset({sender}))
    assert decide(in_quarantine("0", [], [(mailer, ALWAYS)]), sent, HOST).action is Action.BLOCK
    permitted = in_quarantine("0", [parse_filter("0=*:25:TCP")], [(mailer, ALWAYS)])
    assert decide(permitted, sent, HOST).action is Action.PERMIT


@pytest.mark.parametrize(
    ("operator", "permitted"),
    [
        ("*+0:22:TCP", "10.0.0.0/8=*:22:TCP"),
        ("10.0.0.0/8+0:22:TCP", "10.0.0.5=*:22:TCP"),
        ("*+0:22:TCP", "10.0.0.5=0"),
        ("*+0:22:TCP", "10.0.0.5=0:1-1000:TCP"),
    ],
)
@pytest.mark.parametrize("kind", [ALWAYS, LAN])
def test_the_operators_way_in_stays_open(operator: str, permitted: str, kind: Conditions) -> None:
    """Also where a policy permits a part of it more narrowly, which is blocked for the rest."""
    force = in_quarantine("0", [parse_filter(operator)], [(parse_filter(permitted), kind)])
    assert decide(force, packet(0x0A000005, ME[V4], 22), HOST).action is Action.PERMIT
    assert decide(force, packet(0x0A000005, ME[V4], 80), HOST).action is Action.BLOCK


permits = st.lists(st.tuples(filters(), conditions()), max_size=5)


@settings(max_examples=500, deadline=None)
@given(permits, packets((Point.ARRIVING, Point.SENDING)))
def test_nothing_of_a_host_in_quarantine_passes(others: list[Permit], packet: Packet) -> None:
    """Whatever permits there are, to or from this host; what only passes it is not its own."""
    if is_own(packet):
        assert decide(in_quarantine("0", [], others), packet, HOST).action is Action.BLOCK


@settings(max_examples=500, deadline=None)
@given(st.lists(filters(), max_size=3), permits, packets((Point.ARRIVING, Point.SENDING)))
def test_nothing_passes_but_what_the_operator_permits(
    operators: list[Filter], others: list[Permit], packet: Packet
) -> None:
    """Whatever others permit beside it."""
    alone = [InForce(Origin("dynamic", "", "o"), flt, Action.PERMIT) for flt in operators]
    if is_own(packet) and decide(alone, packet, HOST).by is None:
        force = in_quarantine("0", operators, others)
        assert decide(force, packet, HOST).action is Action.BLOCK


def is_own(packet: Packet) -> bool:
    return HOST.owns(packet.family, packet.source) or HOST.owns(packet.family, packet.destination)


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ("*=0::ICMP", "*=0::ICMP/3/4", "*=0::ICMP/3/4"),
        ("*=0::ICMP/3", "*=0::ICMP/3/4", "*=0::ICMP/3/4"),
        ("*=0::ICMP/3/1", "*=0::ICMP/3/4", None),
        ("*=0::ICMP/8", "*=0::ICMP/echo-request", "*=0::1/echo-request"),
        ("*=0::ICMP/echo-request", "*=0::58/128", "*=0::ICMPv6/echo-request"),
        ("*=0::ICMP", "*=0::58/128", "*=0::ICMPv6/echo-request"),
        ("*=0::1", "*=0::58", None),
        ("*=0::ICMP/packet-too-big", "*=0::ICMP/source-quench", None),
        ("*=0::TCP", "*=0::ICMP/3", None),
    ],
)
def test_what_filters_for_messages_have_in_common(
    first: str, second: str, common: str | None
) -> None:
    """The messages of both, in the IP versions that have them in both."""
    for pair in ((first, second), (second, first)):
        intersection = _intersection(*map(parse_filter, pair))
        assert (format_filter(intersection) if intersection else None) == common
