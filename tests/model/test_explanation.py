"""Explanations: every source port, open connections and what leaves, each as decide says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ipsecd.language.filters import parse_filter
from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import ESSENTIALS, KERBEROS
from ipsecd.model.explanation import Explanation, explain
from ipsecd.model.packets import Packet, Point
from ipsecd.model.source_ports import with_source_port
from ipsecd.model.values import Action, Conditions, InForce, Origin
from tests.strategies import HOST, ME, OTHERS, V4, in_force, packets

EXEMPTIONS = (*ESSENTIALS, KERBEROS)
BOUNDS = (0, 1, 67, 68, 79, 80, 81, 82, 88, 89, 443, 444, 546, 547, 999, 1000, 1434, 1999, 2000,
          2001, 49152, 65535)  # fmt: skip


def bare(decision: Decision) -> Decision:
    return replace(decision, beaten=())


@settings(max_examples=500, deadline=None)
@given(in_force(), packets(), st.booleans())
def test_every_source_port_is_judged_as_decide_does(
    filters: list[InForce], packet: Packet, with_exemptions: bool
) -> None:
    """The ranges cover all ports once, neighbours differ, and each port has its own verdict."""
    assume(packet.source_port is not None)
    exempt = EXEMPTIONS if with_exemptions else ()
    explanation = explain(filters, packet, HOST, exempt, any_source_port=True)
    ranges = explanation.source_ports
    assert [one.first for one in ranges] == [0, *(one.last + 1 for one in ranges[:-1])]
    assert ranges[-1].last == 65535
    assert all(one.decision != two.decision for one, two in pairwise(ranges))
    for port in BOUNDS:
        (found,) = (one for one in ranges if one.first <= port <= one.last)
        wanted = decide(filters, with_source_port(packet, port), HOST, exempt)
        assert found.decision == bare(wanted)
    assert explanation.decision == decide(filters, packet, HOST, exempt)


def verdicts(explanation: Explanation) -> list[Decision]:
    leaving = explanation.leaving
    return [explanation.decision, *([leaving.decision] if leaving else [])]


@settings(max_examples=500, deadline=None)
@given(in_force(), packets())
def test_a_known_connection_is_told_only_where_it_matters(
    filters: list[InForce], packet: Packet
) -> None:
    """It is what the same packet meets if it is part of one, at both points of a forwarded one."""
    found = explain(filters, replace(packet, opening=True), HOST, EXEMPTIONS)
    arrived = replace(packet.arrived, opening=False) if packet.arrived else None
    of_connection = replace(packet, opening=False, arrived=arrived)
    known = explain(filters, of_connection, HOST, EXEMPTIONS)
    assert known.known is None
    differs = [bare(one) for one in verdicts(found)] != [bare(one) for one in verdicts(known)]
    if not differs:
        assert found.known is None
    else:
        assert found.known
        assert verdicts(found.known) == verdicts(known)
    assert found.connections_count is any(one.conditions.opening for one in filters)


def one(text: str, action: Action, *, opening: bool = False) -> InForce:
    return InForce(
        Origin("static", "P", text), parse_filter(text), action, Conditions(None, opening)
    )


def test_a_connection_can_matter_from_some_source_ports_only() -> None:
    """Then it is told, although the verdict for the port that is named first is the same."""
    filters = [
        one("*:53=0::TCP", Action.BLOCK, opening=True),
        one("*=0::TCP", Action.BLOCK),
    ]
    packet = Packet(Point.ARRIVING, V4, OTHERS[V4][0], ME[V4], 6, 49152, 22)
    found = explain(filters, packet, HOST, any_source_port=True)
    assert [(ports.first, ports.last) for ports in found.source_ports] == [
        (0, 52),
        (53, 53),
        (54, 65535),
    ]
    assert found.known
    assert [(ports.first, ports.last) for ports in found.known.source_ports] == [(0, 65535)]


def test_what_is_forwarded_of_a_connection_can_be_blocked_as_it_leaves() -> None:
    """By a filter that did not match the packet when it arrived, where it opened a connection."""
    filters = [
        one("*=*", Action.BLOCK, opening=True),
        one("0=*:22:TCP", Action.BLOCK),
    ]
    packet = Packet(Point.ARRIVING, V4, OTHERS[V4][3], OTHERS[V4][5], 6, 49152, 22)
    for any_source_port in (False, True):
        found = explain(filters, packet, HOST, any_source_port=any_source_port)
        assert found.leaving is None
        assert found.known
        assert found.known.leaving
        assert found.known.leaving.decision.by == filters[1]


def test_many_filters_by_source_port_take_no_square_of_time() -> None:
    """Each filter is asked about a few ports, however many ranges all of them make."""
    filters = [one(f"*:{port}=0::TCP", Action.BLOCK) for port in range(1, 20_001)]
    packet = Packet(Point.ARRIVING, V4, OTHERS[V4][0], ME[V4], 6, 49152, 22)
    found = explain(filters, packet, HOST, any_source_port=True)
    assert len(found.source_ports) == 20_002
