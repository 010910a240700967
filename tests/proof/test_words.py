"""What is decided differently, in words: packets that explain takes, and takes for the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings

from ipsecd.language.documents import parse_policy
from ipsecd.language.packets import format_packet, parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host, Point
from ipsecd.model.values import InForce, Store, filters_of
from ipsecd.proof.changes import Surroundings, changes
from ipsecd.proof.standing import with_stand_ins
from ipsecd.proof.words import changes_to_json, lines_of_changes
from tests.strategies import HOST, in_force


@given(in_force(6), in_force(6))
@settings(max_examples=30, deadline=None, suppress_health_check=[*HealthCheck])
def test_examples_are_packets_that_explain_takes(before: list[InForce], now: list[InForce]) -> None:
    """What is printed is read as the packet that was judged."""
    for one in changes(before, now, Surroundings(HOST)).examples:
        packet = one.packet.arrived or one.packet
        text = format_packet(packet, host=HOST)
        parsed = parse_packet(text)
        types = assumed_types(parsed.interface)
        assert to_packet(parsed, HOST, types) in (
            packet,
            # A name that stands for the other type is written all the same.
            replace(packet, interface_type=types.get(packet.interface)),
        ), text


def verdicts(before: str, now: str, host: Host = HOST) -> dict[str, Any]:
    states = [
        filters_of(parse_policy("policy: P\nrules:\n" + text), Store.STATIC) if text else ()
        for text in (before, now)
    ]
    (first, second), host, _ = with_stand_ins(states, host)
    surroundings = Surroundings(host)
    return changes_to_json(changes(first, second, surroundings), surroundings)


BLOCK = "- {rule: All, action: block, filters: ['*=0']}\n"


def test_people_are_told_packets_and_filters() -> None:
    """Each class has a packet, and the filters that decide before and then."""
    permit = "- {rule: SSH, action: permit, filters: [192.0.2.0/24=0:22:TCP]}\n"
    assert [*lines_of_changes(verdicts(BLOCK, BLOCK + permit))] == [
        "block becomes permit: tcp 192.0.2.7:40000 > me:22",
        "  before: block *=0  (static: 'P' / 'All')",
        "  then:   permit 192.0.2.0/24=0:22:TCP  (static: 'P' / 'SSH')",
    ]
    assert [*lines_of_changes(verdicts(BLOCK, BLOCK))] == [
        "no packet is decided differently, which is proven"
    ]
    first = [*lines_of_changes(verdicts("", BLOCK))]
    assert first[1] == "  before: no filter"
    assert "headers cannot be read are dropped" in first[-1]
    assert "headers cannot be read pass" in [*lines_of_changes(verdicts(BLOCK, ""))][-1]


def test_a_forwarded_packet_is_told_as_it_arrives() -> None:
    """With the link that it leaves by, where that matters."""
    block = "- {rule: Out, action: block, filters: ['0=203.0.113.9'], interface: eth1}\n"
    classes = verdicts("", block)["classes"]
    leaving = [one for one in classes if one["point"] == Point.LEAVING.value]
    assert [one["packet"] for one in leaving] == ["tcp 198.51.100.7:40000 > 203.0.113.9:443"]
    assert [one["leaving_by"] for one in leaving] == ["eth1"]
    (line,) = (line for line in lines_of_changes(verdicts("", block)) if "leaves" in line)
    packet = "tcp 198.51.100.7:40000 > 203.0.113.9:443"
    ends = ", when it leaves under this host's address by eth1"
    assert line == f"permit becomes block: {packet}{ends}"


def test_what_is_not_known_stands_for_addresses_of_its_own() -> None:
    """The same in both policies, so that a rule by name that stays changes nothing."""
    by_name = "- {rule: N, action: permit, filters: ['example.com=0', 'container:web=0', '@l=0']}\n"
    assert verdicts(BLOCK + by_name, by_name + BLOCK, Host())["equal"]
    first = filters_of(parse_policy("policy: P\nrules:\n" + by_name), Store.STATIC)
    states, host, names = with_stand_ins([first, first], Host())
    assert names == ("@l", "container:web", "example.com")
    assert states[0] == states[1]
    assert {family for family, _ in host.addresses} == set(Family)
    assert len(verdicts(BLOCK, BLOCK + by_name, Host())["classes"]) == 6
