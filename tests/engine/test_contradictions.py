"""What outranks a rule, and what blocks an address all the same, as ``decide`` has it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.compiler.overlaps import Match, Overlaps
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.engine.contradictions import MAX_TOLD, Contradiction, blocks_of, outranking
from ipsecd.engine.state import NOTHING, Condition, State
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.decide import decide, matches_of
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action, Conditions, Filter, InForce, Origin
from ipsecd.sources.dynamic import DynamicRule
from tests.strategies import ENTRIES, HOST, conditions, filters, in_force, lists, packets

BAN = "zz ban"
Lists = Mapping[str, AddressList]
NO_LISTS: Lists = {}
POINTS = (Point.ARRIVING, Point.SENDING)


def state_of(everything: Sequence[InForce], entries: Lists = NO_LISTS) -> State:
    volatile = Volatile()
    dynamic = [each for each in everything if each.origin.volatile]
    volatile.change(add=rows_of(with_lengths(dynamic, entries)), deadline=inf)
    static = [each for each in everything if not each.origin.volatile]
    policy = compile_filters(static, lists=entries).with_lists(entries, volatile.tables)
    compiled = replace(
        NOTHING, protected=tuple(each.filter for each in static if each.origin.protected)
    )
    return State(
        Condition.ENFORCING,
        compiled=compiled,
        classifier=policy,
        volatile=volatile,
        lists=entries,
    )


def found(
    others: Sequence[InForce], ban: DynamicRule, entries: Lists = NO_LISTS
) -> tuple[Contradiction, ...]:
    state = state_of([*others, *ban.in_force], entries)
    return outranking(state, [ban], Overlaps(), lambda: HOST)


def ban_of(member: Filter, action: Action, asked: Conditions) -> DynamicRule:
    return DynamicRule(BAN, (member,), action, asked)


literal_bans = st.builds(ban_of, filters(), st.sampled_from(Action), conditions())
bans = st.builds(ban_of, filters(listing=True), st.sampled_from(Action), conditions())


@settings(max_examples=600, deadline=None)
@given(in_force(6, asked=conditions(), listing=True), bans, lists())
def test_what_is_named_decides(
    others: list[InForce], ban: DynamicRule, entries: dict[str, AddressList]
) -> None:
    """Each packet that is named matches the rule, and what is named decides about it otherwise."""
    everything = [*others, *ban.in_force]
    host = replace(HOST, lists=entries)
    for each in found(others, ban, entries):
        assert any(any(matches_of(one, each.packet, host)) for one in ban.in_force)
        decision = decide(everything, each.packet, host)
        assert decision.action is each.action is not ban.action
        assert decision.by is not None
        assert decision.by.origin == each.origin
        assert any(matches_of(InForce(each.origin, each.by, each.action), each.packet, host))


def is_outranked(
    others: list[InForce], ban: DynamicRule, sent: list[Packet], entries: Lists
) -> bool:
    """Whether another filter decides about one of the packets, which the rule matches.

    An audit decides nothing, so no other decides in its place.
    """
    if ban.action is Action.AUDIT:
        return False
    everything = [*others, *ban.in_force]
    host = replace(HOST, lists=entries)
    return any(
        any(matches_of(ban.in_force[0], packet, host))
        and decide(everything, packet, host).action is not ban.action
        and decide(everything, packet, host).by is not None
        for packet in sent
    )


many_packets = st.lists(packets(POINTS), min_size=20, max_size=60)


@settings(max_examples=600, deadline=None)
@given(in_force(1, asked=conditions()), literal_bans, many_packets)
def test_nothing_outranks_unnamed(
    others: list[InForce], ban: DynamicRule, sent: list[Packet]
) -> None:
    """Where another filter decides about a packet that a rule matches, it is named."""
    if is_outranked(others, ban, sent, NO_LISTS):
        assert found(others, ban)


@settings(max_examples=600, deadline=None)
@given(in_force(1, asked=conditions(), listing=True), bans, st.sampled_from(ENTRIES), many_packets)
def test_nothing_outranks_a_listed_address_unnamed(
    others: list[InForce], ban: DynamicRule, entry: Network, sent: list[Packet]
) -> None:
    """Nor of a list. With several entries, a narrower one of the rule may decide what is tried."""
    entries = {"a": listed([entry]), "b": listed([entry])}
    if is_outranked(others, ban, sent, entries):
        assert found(others, ban, entries)


def of(store: str, action: str, *texts: str, when: bool = False) -> list[InForce]:
    return [
        InForce(
            Origin(store, "P" if store == "static" else "", f"{store} {text}"),
            parse_filter(text),
            Action(action),
            Conditions(opening=when),
        )
        for text in texts
    ]


BLOCK_7 = DynamicRule(BAN, (parse_filter("203.0.113.7=0"),), Action.BLOCK)


@pytest.mark.parametrize(
    ("permit", "named"),
    [
        ("203.0.113.7=0:22:TCP", True),
        ("203.0.113.7=0", False),
        ("203.0.113.0/24=0:22:TCP", False),
        ("*=0:22:TCP", False),
        ("203.0.113.7=10.9.0.1:22:TCP", True),
        ("203.0.113.7=10.9.0.9:22:TCP", False),
        ("203.0.113.8=0:22:TCP", False),
        ("203.0.113.7+0:20-25:TCP", True),
    ],
)
@pytest.mark.parametrize("store", ["static", "dynamic"])
def test_a_more_specific_permit_is_named(store: str, permit: str, named: bool) -> None:
    """Of a policy or dynamic; a wider one is none."""
    names = [format_filter(each.by) for each in found(of(store, "permit", permit), BLOCK_7)]
    assert names == ([permit.replace("+", "=")] if named else [])


def test_a_permit_behind_another_block_is_not_named() -> None:
    """What no packet gets by passes nothing."""
    others = [
        *of("static", "permit", "203.0.113.7=0:22:TCP"),
        *of("dynamic", "block", "203.0.113.7=0:22:TCP"),
    ]
    assert found(others, BLOCK_7) == ()


def test_a_block_that_outranks_a_permit_is_named() -> None:
    """And in a wide permit, each of some."""
    permit = DynamicRule(BAN, (parse_filter("203.0.113.0/24=0"),), Action.PERMIT)
    others = of("dynamic", "block", *(f"203.0.113.{n}=0" for n in range(100)), "203.0.114.1=0")
    assert len(found(others, permit)) == MAX_TOLD
    assert found(of("dynamic", "block", "203.0.114.1=0"), permit) == ()


def test_a_batch_is_searched_by_key() -> None:
    """Ten thousand bans beside ten thousand permits: two of these outrank one of those each."""
    permits = of("static", "permit", *(f"10.1.{n >> 8}.{n & 255}=0:22:TCP" for n in range(10_000)))
    rules = [
        DynamicRule(f"r{n}", (parse_filter(f"10.2.{n >> 8}.{n & 255}=0"),), Action.BLOCK)
        for n in range(10_000)
    ] + [DynamicRule(f"s{n}", (parse_filter(f"10.1.7.{n}=0"),), Action.BLOCK) for n in range(2)]
    state = state_of([*permits, *(each for rule in rules for each in rule.in_force)])
    judged: list[Packet] = []
    lookup = type(state.classifier).lookup

    class Counting(type(state.classifier)):  # type: ignore[misc]
        def lookup(self, packet: Packet, host: Host, volatile: Any = ()) -> Any:
            judged.append(packet)
            return lookup(self, packet, host, volatile)

    counting = Counting(state.classifier.tables)
    state = State(Condition.ENFORCING, classifier=counting, volatile=state.volatile)
    begun = time.process_time()
    outcome = outranking(state, rules, Overlaps(), lambda: HOST)
    spent_s = time.process_time() - begun
    assert sorted(each.origin.rule for each in outcome) == [
        "static 10.1.7.0=0:22:TCP",
        "static 10.1.7.1=0:22:TCP",
    ]
    assert len(judged) == 2
    # By a scan it would be a hundred million pairs.
    assert spent_s < 20


def test_tables_of_dynamic_rules_are_sorted_once() -> None:
    """Until they change."""
    state = state_of(of("dynamic", "permit", *(f"10.1.0.{n}=0:22:TCP" for n in range(50))))
    overlaps = Overlaps()
    table = next(each for each in state.volatile.tables)
    row = next(iter(rows_of(of("dynamic", "block", "10.1.0.7=0"))))
    match = Match.of(row.table, row.key)
    for _ in range(2):
        assert len([*overlaps.find(table, match, lambda _: ())]) == 1
    assert overlaps._keys(table) is overlaps._keys(table)


def test_what_blocks_a_network_all_the_same() -> None:
    """All that is as wide or wider; no port for everybody, nothing narrower, nothing permitted."""
    everything = [
        *of("static", "block", "203.0.113.0/24=0", "*=0:9:UDP", "203.0.113.7=0:25:TCP", "*=0"),
        *of("dynamic", "block", "203.0.0.0/16=*", "0=203.0.113.0/25"),
    ]
    state = state_of(everything)
    network = Network(Family.IPV4, 0xCB007107, 32)

    def named(state: State) -> set[str]:
        return {
            format_filter(each.by) for each in blocks_of(state, network, Overlaps(), lambda: HOST)
        }

    assert named(state) == {
        *("203.0.113.0/24=0", "203.0.113.7=0:25:TCP", "*=0", "203.0.0.0/16=*", "0=203.0.113.0/25")
    }
    entries = {"drop": listed([network, Network(Family.IPV4, 0xCB007100, 27)])}
    blocked_by_lists = of("static", "block", "@drop=0", "@nothing=0")
    more = named(state_of([*everything, *blocked_by_lists], entries)) - named(state)
    assert more == {"203.0.113.7=0", "203.0.113.0/27=0"}
    permits = of("dynamic", "permit", "203.0.113.4/30+0")
    assert named(state_of([*everything, *permits])) == {"203.0.113.7=0:25:TCP"}
