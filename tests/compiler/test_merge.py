"""A packet is credited to the rule that decide names, however the compiled form was made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network, Process, Selector, SelectorKind
from ipsecd.model.decide import decide
from ipsecd.model.inventory import Container, Inventory, has_selectors, resolved
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin
from tests.strategies import HOST, OTHERS, in_force, packets

V4, V6 = Family.IPV4, Family.IPV6


def hosts(*numbers: int) -> tuple[Network, ...]:
    """Addresses that literal filters and packets have too."""
    return tuple(Network(f, OTHERS[f][number], f.bits) for f in Family for number in numbers)


INVENTORY = Inventory(
    (
        Container("a" * 64, "web", frozenset({("app", "shop")}), {"front": hosts(0, 1)}),
        Container("b" * 64, "db", frozenset({("app", "shop")}), {"front": hosts(1, 2)}),
    ),
    {"front": (Network(V4, 0x0A090000, 24), Network(V6, 0xFD09 << 112, 64))},
)
SELECTORS = (
    Selector(SelectorKind.CONTAINER, "web"),
    Selector(SelectorKind.CONTAINER, "db"),
    Selector(SelectorKind.LABEL, "app=shop"),
    Selector(SelectorKind.NETWORK, "front"),
)


@st.composite
def with_selectors(draw: st.DrawFn) -> list[InForce]:
    """Filters some of which name containers, and rules whose names come in any order."""
    drawn = []
    for number, literal in enumerate(draw(in_force(10))):
        source, destination = literal.filter.source, literal.filter.destination
        which = draw(st.sampled_from(["neither", "source", "destination"]))
        selector = draw(st.sampled_from(SELECTORS))
        if which == "source" and not isinstance(source.address, Process):
            source = Endpoint(selector, source.ports)
        if which == "destination":
            destination = Endpoint(selector, destination.ports)
        flt = Filter(source, destination, literal.filter.protocol, literal.filter.mirrored)
        origin = replace(literal.origin, rule=f"{draw(st.integers(0, 9))}{number}")
        drawn.append(replace(literal, origin=origin, filter=flt))
    return drawn


def static(rule: str, text: str, action: Action = Action.BLOCK) -> InForce:
    return InForce(Origin("static", "P", rule), parse_filter(text), action)


FROM_WEB = Packet(Point.ARRIVING, V4, OTHERS[V4][0], OTHERS[V4][3], 17, 1000, 53)
FROM_WEB_TO_ME = replace(FROM_WEB, destination=0x0A090001)
LEAVING = replace(FROM_WEB, point=Point.LEAVING, source=0x0A090001)


@settings(max_examples=600, deadline=None)
@given(with_selectors(), st.lists(packets(), min_size=4, max_size=12))
@example([static("a", "10.9.0.2=*:53:UDP"), static("b", "container:web=*:53:UDP")], [FROM_WEB])
@example([static("b", "10.9.0.2=*:53:UDP"), static("a", "container:web=*:53:UDP")], [FROM_WEB])
@example([static("b", "10.9.0.2=*"), static("a", "*=0")], [FROM_WEB_TO_ME])
@example([static("b", "*=*"), static("a", "*=*", Action.PERMIT)], [LEAVING])
@example([static("a", "10.9.0.2=*"), static("b", "*=0")], [FROM_WEB_TO_ME])
def test_the_rule_that_is_credited_is_the_one_that_decide_names(
    filters: list[InForce], sent: list[Packet]
) -> None:
    """Of literal filters and selectors merged, beside dynamic rules.

    A permit that lets a forwarded packet leave was credited when the packet arrived.
    """
    dynamic = [flt for flt in filters if flt.origin.volatile]
    policy = [flt for flt in filters if not flt.origin.volatile]
    literal = [flt for flt in policy if not has_selectors(flt.filter)]
    selecting = resolved([flt for flt in policy if has_selectors(flt.filter)], INVENTORY)
    both = merged(compile_filters(literal), compile_filters(selecting))
    assert [table.id.order for table in both.tables] == sorted(t.id.order for t in both.tables)
    volatile = Volatile()
    volatile.change(add=rows_of(resolved(dynamic, INVENTORY)))
    by_address = resolved(filters, INVENTORY)
    for packet in sent:
        wanted = decide(by_address, packet, HOST)
        verdict = both.lookup(packet, HOST, volatile.tables)
        assert verdict.action is wanted.action
        if packet.point is not Point.LEAVING or wanted.action is Action.BLOCK:
            assert verdict.origin == (wanted.by.origin if wanted.by else None)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from("bd"), min_size=80, max_size=80),
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 170)), min_size=1, max_size=8),
    st.sampled_from(Action),
)
@example(["b"] * 80, [("b", 1), ("b", 161)], Action.BLOCK)
@example(["b"] * 80, [("a", 0), ("c", 2)], Action.PERMIT)
def test_what_is_put_into_a_long_table_is_as_if_compiled(
    rules: list[str], more: list[tuple[str, int]], action: Action
) -> None:
    """Wherever it belongs in the order of keys and of rules, and whatever is there already."""
    long = [static(rule, f"10.9.{2 * n + 1}.0/24=0:53:UDP") for n, rule in enumerate(rules)]
    few = [replace(static(rule, f"10.9.{n}.0/24=0:53:UDP"), action=action) for rule, n in more]
    both = merged(compile_filters(long), compile_filters(few))
    assert both == compile_filters([*long, *few])


@pytest.mark.parametrize(("rule", "credited"), [("a", "a"), ("c", "b")])
def test_hosts_that_selectors_stand_for_leave_tables_of_the_same_form_as_they_are(
    rule: str, credited: str
) -> None:
    """Whoever enforces those has nothing to do; of two rules the right one counts all the same."""
    base = compile_filters([static("b", "10.9.0.2=*:53:UDP"), static("b", "10.9.0.9=*:53:UDP")])
    selecting = [static(rule, "container:web=*:53:UDP"), static(rule, "network:front=*:53:UDP")]
    both = merged(base, compile_filters(resolved(selecting, INVENTORY)))
    (table,) = base.tables
    assert [kept for kept in both.tables if kept is table]
    apart = [of_hosts.id for of_hosts in both.tables if of_hosts.id.selected]
    assert {identity._replace(selected=False) for identity in apart} >= {table.id}
    assert all(identity.is_of_hosts for identity in apart)
    verdict = both.lookup(FROM_WEB, HOST)
    assert verdict.origin == Origin("static", "P", credited)


def test_an_entry_of_several_dynamic_rules_counts_for_one_of_them() -> None:
    """For the one that decide names, and when it goes for the next."""
    first, second = (
        InForce(Origin("dynamic", "", name), parse_filter("10.9.0.2=0"), Action.BLOCK)
        for name in "ab"
    )
    volatile = Volatile()
    volatile.change(add=rows_of([second]))
    (place,) = volatile.credits(second.origin)
    volatile.change(add=rows_of([first]))
    assert list(volatile.credits(first.origin)) == [place]
    assert list(volatile.credits(second.origin)) == []
    volatile.change(remove=[first.origin])
    assert list(volatile.credits(second.origin)) == [place]
