"""What decided about a packet is found out again from its bytes, as ``decide`` has it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ipsecd.backend.reporting import SNAP_BYTES, Report
from ipsecd.compiler.policy import compile_filters
from ipsecd.engine.attribution import Attribution
from ipsecd.engine.recent import TOGETHER_NS, RecentStates
from ipsecd.engine.state import Condition, State
from ipsecd.host.interfaces import HostState, Interface
from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import parse_filter
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family, Network
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.kinds import Conditions
from ipsecd.model.lists import listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.sightings import LINK_ETHERNET, LINK_RAW, Sighting
from ipsecd.model.values import (
    Action,
    InForce,
    InterfaceType,
    Origin,
    Policy,
    Rule,
    Store,
    filters_of,
)
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.last_good import CompiledPolicy
from tests.bytes_of import bytes_of
from tests.engine.site import Site
from tests.strategies import HOST as STRATEGIC
from tests.strategies import LINKS, packets_for, policies

ME = parse_address("10.9.0.1")
assert isinstance(ME, Network)
HOST = Host(frozenset({(Family.IPV4, ME.address), (Family.IPV6, 0xFD09 << 112 | 1)}))
NAMES = tuple(each.name for each in ESSENTIALS)
TYPES = {"eth0": InterfaceType.LAN, "ppp0": InterfaceType.DIALUP}


def link(number: int, name: str) -> Interface:
    return Interface(name, number, TYPES.get(name, InterfaceType.LAN), True, ())


LINKS_HERE = (link(2, "eth0"), link(3, "ppp0"))


def packet(text: str) -> Packet:
    parsed = parse_packet(text)
    return to_packet(parsed, HOST, assumed_types(parsed.interface or "eth0") | TYPES)


def report(sent: Packet, at_ns: int | None = None, *, link_header: bytes = b"") -> Report:
    numbers = {each.name: each.index for each in LINKS_HERE}
    data = bytes_of(sent)
    at = time.time_ns() if at_ns is None else at_ns
    number = numbers.get(sent.interface, 2)
    return Report(at, Action.BLOCK, sent.point, number, len(data), link_header, data[:SNAP_BYTES])


class Bench:
    """An engine over memory, and what attributes packets by its states."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.recent = RecentStates()
        self.recent.begin(site.engine.state)
        site.engine._enforcement.listeners.append(self.recent.heard)
        self.attribution = Attribution(self.recent, lambda: HostState(LINKS_HERE, HOST))

    def put(self, *rules: Rule) -> None:
        self.site.engine.change(put=[Policy("P", rules)], assign="P")

    def see(self, text: str) -> Sighting:
        (sighting,) = self.attribution.sightings([report(packet(text))])
        return sighting


@pytest.fixture
def bench(site: Site) -> Bench:
    return Bench(site)


def rule(name: str, *filters: str, action: Action = Action.BLOCK, opening: bool = False) -> Rule:
    conditions = Conditions(opening=opening)
    return Rule(name, tuple(map(parse_filter, filters)), action, conditions)


def test_a_packet_is_attributed_to_the_rule_and_filter_that_dropped_it(bench: Bench) -> None:
    """The most specific decides; a dynamic rule is one, too."""
    bench.put(rule("wide", "*=0::UDP", "*=0::TCP"), rule("narrow", "10.0.0.0/8=0:1434:UDP"))
    seen = bench.see("udp 10.1.2.3:4000 > 10.9.0.1:1434 in eth0")
    assert seen.origin == Origin("static", "P", "narrow")
    assert seen.filter == parse_filter("10.0.0.0/8=0:1434:UDP")
    assert (seen.interface, seen.flags, seen.point) == ("eth0", "", Point.ARRIVING)
    assert seen.head == bytes_of(seen.packet)
    assert seen.link_type == LINK_RAW
    seen = bench.see("tcp 10.1.2.3:4000 > 10.9.0.1:1434 in ppp0")
    assert (seen.origin, seen.flags) == (Origin("static", "P", "wide"), "S")
    assert seen.filter == parse_filter("*=0::TCP")
    assert seen.interface == "ppp0"
    bench.site.engine.add_dynamic(DynamicRule("ban", (parse_filter("10.1.2.3=0"),), Action.BLOCK))
    seen = bench.see("udp 10.1.2.3:4000 > 10.9.0.1:1434")
    assert seen.origin == Origin("dynamic", "", "ban")
    assert seen.filter == parse_filter("10.1.2.3=0")


def test_what_the_state_would_not_drop_is_said_to_be_of_no_rule(bench: Bench) -> None:
    """A permit, an exemption, and what no filter matches: nothing is made up."""
    bench.put(rule("b", "*=0::UDP"), rule("p", "*=0:53:UDP", action=Action.PERMIT))
    for text in ("udp 10.1.2.3:4000 > 10.9.0.1:53", "tcp 10.1.2.3:4000 > 10.9.0.1:53"):
        seen = bench.see(text)
        assert (seen.origin, seen.filter, seen.list_name, seen.entry) == (None, None, "", None)


def test_the_entry_of_a_list_is_named(bench: Bench) -> None:
    """Of several lists of a rule, the one that has it; the filter is the one that names that."""
    bench.site.engine.list_changes.change(
        {
            "bad": listed([Network(Family.IPV4, 0xCB007100, 24)]),
            "worse": listed([Network(Family.IPV4, 0xC6336400, 25)]),
        }
    )
    bench.put(rule("lists", "@bad=0", "@worse=0"))
    seen = bench.see("udp 198.51.100.7:4000 > 10.9.0.1:53")
    assert (seen.list_name, seen.entry) == ("worse", Network(Family.IPV4, 0xC6336400, 25))
    assert seen.filter == parse_filter("@worse=0")
    assert seen.origin == Origin("static", "P", "lists")
    seen = bench.see("udp 203.0.113.9:4000 > 10.9.0.1:53")
    assert (seen.list_name, seen.filter) == ("bad", parse_filter("@bad=0"))


def test_of_a_long_rule_the_filter_is_found_by_its_entry(bench: Bench) -> None:
    """It takes no longer for the last filter than for the first."""
    texts = [f"10.{n >> 8}.{n & 255}.0/24=0:1434:UDP" for n in range(3000)]
    bench.put(rule("long", *texts))
    seen = bench.see("udp 10.11.183.9:4000 > 10.9.0.1:1434")
    assert seen.filter == parse_filter("10.11.183.0/24=0:1434:UDP")
    begun = time.process_time()
    for number in range(500):
        seen = bench.see(f"udp 10.{number & 7}.{number & 255}.9:4000 > 10.9.0.1:1434")
        assert seen.filter is not None
    assert time.process_time() - begun < 5


def test_a_packet_that_cannot_be_read_is_of_no_rule(bench: Bench) -> None:
    """It was dropped before all rules; even one that ends before its addresses is told of."""
    bench.put(rule("b", "*=0::UDP"))
    whole = packet("udp 10.1.2.3:4000 > 10.9.0.1:53")
    sent = report(whole)
    for end in (0, 3, 12, 21, 23):
        cut = replace(sent, packet=sent.packet[:end])
        (seen,) = bench.attribution.sightings([cut])
        assert seen.origin is None
        assert not seen.packet.parsed
        assert seen.head == sent.packet[:end]


def test_a_packet_is_judged_by_the_state_that_was_in_force_then(bench: Bench) -> None:
    """A change between the drop and the report does not matter, either way."""
    bench.put(rule("first", "*=0:1434:UDP"))
    time.sleep(2 * TOGETHER_NS / 1e9)
    text = "udp 10.1.2.3:4000 > 10.9.0.1:1434"
    before = time.time_ns()
    time.sleep(2 * TOGETHER_NS / 1e9)
    bench.put(rule("second", "*=0:1434:UDP"))
    time.sleep(2 * TOGETHER_NS / 1e9)
    after = time.time_ns()
    bench.put(rule("none", "*=0:99:UDP"))
    for at, name in ((before, "first"), (after, "second")):
        (seen,) = bench.attribution.sightings([report(packet(text), at)])
        assert seen.origin == Origin("static", "P", name)
    # The kernel has a new state a moment before it is known here.
    (seen,) = bench.attribution.sightings([report(packet("udp 1.2.3.4:5 > 10.9.0.1:99"), before)])
    assert seen.origin == Origin("static", "P", "none")


def test_states_are_not_kept_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are many kept of those that follow one another quickly."""
    monkeypatch.setattr("ipsecd.engine.recent.KEPT_NS", 50_000_000)
    for number in range(300):
        bench.recent.heard(replace(bench.site.engine.state, taken_over=number))
    time.sleep(0.1)
    bench.recent.heard(replace(bench.site.engine.state, taken_over=1000))
    assert len(bench.recent._states) < 20
    assert bench.recent.at(time.time_ns())[0].taken_over == 1000
    bench.recent.end()
    bench.recent.heard(bench.site.engine.state)
    assert bench.recent.at(0) == []


def test_an_audit_and_what_stands_below_it_are_told_apart(bench: Bench) -> None:
    """The report says which of both it is about."""
    bench.put(
        rule("audit", "10.0.0.0/8=0:22:TCP", action=Action.AUDIT),
        rule("block", "*=0:22:TCP"),
        rule("alone", "*=0:23:TCP", action=Action.AUDIT),
    )
    sent = report(packet("tcp 10.1.1.1:4000 > 10.9.0.1:22"))
    audited = replace(sent, action=Action.AUDIT)
    seen = bench.attribution.sightings([sent, audited])
    assert [each.origin and each.origin.rule for each in seen] == ["block", "audit"]
    assert [each.action for each in seen] == [Action.BLOCK, Action.AUDIT]
    assert seen[1].filter == parse_filter("10.0.0.0/8=0:22:TCP")
    lone = report(packet("tcp 10.1.1.1:4000 > 10.9.0.1:23"))
    seen = bench.attribution.sightings([lone, replace(lone, action=Action.AUDIT)])
    assert [each.origin and each.origin.rule for each in seen] == [None, "alone"]


def test_rules_for_what_opens_a_connection(bench: Bench) -> None:
    """What is dropped although the rule for opening packets lets it pass was part of one."""
    bench.put(
        rule("opening", "*=0:22:TCP", opening=True),
        rule("let in", "10.0.0.0/8=0:22:TCP", action=Action.PERMIT, opening=True),
        rule("all", "*=0::TCP"),
    )
    assert bench.see("tcp 8.8.8.8:4000 > 10.9.0.1:22").origin == Origin("static", "P", "opening")
    assert bench.see("tcp 10.1.1.1:4000 > 10.9.0.1:22").origin == Origin("static", "P", "all")


def test_the_container_is_named(bench: Bench) -> None:
    """The one that the packet is for, or that it is from."""
    address = Network(Family.IPV4, 0x0A580005, 32)
    web = Container("0123456789ab", "web\x1b[31m", networks={"front": (address,)})
    bench.site.engine.set_inventory("podman", Inventory((web,)))
    bench.put(rule("b", "*=10.88.0.5:80:TCP", "10.88.0.5=*"))
    assert bench.see("tcp 8.8.8.8:4000 > 10.88.0.5:80").container == web.name
    assert bench.see("tcp 10.88.0.5:4000 > 8.8.8.8:80").container == web.name
    assert bench.see("tcp 8.8.8.8:4000 > 10.9.0.1:80").container == ""


def test_ethernet_is_told_apart(bench: Bench) -> None:
    """What stands before the IP header is kept for those who write packets to files."""
    sent = report(packet("udp 1.2.3.4:5 > 10.9.0.1:99"), link_header=bytes(12) + b"\x08\0")
    (seen,) = bench.attribution.sightings([sent])
    assert seen.link_type == LINK_ETHERNET
    assert seen.head == sent.link_header + sent.packet


def test_a_rule_by_sender_explains_what_nothing_else_does(bench: Bench) -> None:
    """The sender has gone, or cannot be asked: only that rule can have dropped the packet."""
    bench.put(rule("sender", "cgroup:/a/b=*:25:TCP"))
    assert bench.see("tcp 10.9.0.1:4000 > 8.8.8.8:25").origin == Origin("static", "P", "sender")
    assert bench.see("tcp 10.9.0.1:4000 > 8.8.8.8:26").origin is None


def attributed(policy: Policy, sent: Iterable[Packet]) -> list[Sighting]:
    classifier = compile_filters(filters_of(policy, Store.STATIC), NAMES)
    state = State(Condition.ENFORCING, compiled=CompiledPolicy("", policy, classifier))
    state = replace(state, classifier=classifier)
    recent = RecentStates()
    recent.begin(state)
    links = [link(number, name) for number, name in enumerate(("", *LINKS), 2)]
    numbers = {each.name: each.index for each in links}
    attribution = Attribution(recent, lambda: HostState(tuple(links), STRATEGIC))
    reports = [replace(report(each), interface=numbers[each.interface]) for each in sent]
    return attribution.sightings(reports)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_it_is_what_decide_says(data: st.DataObject) -> None:
    """Over policies, and packets from their boundaries."""
    policy = data.draw(policies())
    filters: tuple[InForce, ...] = filters_of(policy, Store.STATIC)
    assume(not any("service" in str(f.filter) or "cgroup" in str(f.filter) for f in filters))
    drawn = data.draw(st.lists(packets_for(policy, STRATEGIC), min_size=1, max_size=10))
    sent = [
        replace(each, interface_type=InterfaceType.LAN, arrived=None, opening=True)
        for each in drawn
        if each.parsed and not (each.protocol in (6, 17) and each.source_port is None)
    ]
    asks_for_connections = any(each.conditions.opening for each in filters)
    for each, seen in zip(sent, attributed(policy, sent), strict=True):
        decision = decide(filters, each, STRATEGIC, ESSENTIALS)
        if decision.by and decision.action is Action.BLOCK:
            assert seen.origin == decision.by.origin, (each, seen)
            assert seen.filter == decision.by.filter
        elif not asks_for_connections:
            assert seen.origin is None
