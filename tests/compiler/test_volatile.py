"""Compiled dynamic rules: what one state of them differs in from another."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from ipsecd.compiler.rows import Row, rows_of
from ipsecd.compiler.volatile import Delta, Entry, Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Filter, InForce, Origin

FILTERS = (parse_filter("10.0.0.0=0"), parse_filter("*=0:9:UDP"))
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from((0, 1)), st.integers(0, 5), st.sampled_from((7.0, 9.0))
    ),
    max_size=20,
)


def row(number: int, flt: Filter = FILTERS[0], name: str = "") -> Row:
    """The row of a dynamic rule for an address, or for all of them."""
    rule = InForce(Origin("dynamic", "", name or str(number)), flt, Action.BLOCK)
    found = next(iter(rows_of([rule])))
    key = number.to_bytes(4, "big") if flt is FILTERS[0] else found.key
    return Row(found.table, key, rule)


def changed(volatile: Volatile, steps: list[tuple[int, int, int, float]]) -> Volatile:
    """Rules by few names come and go, and share entries and tables."""
    for name, form, number, deadline in steps:
        origin = Origin("dynamic", "", str(name))
        add = [row(number, FILTERS[form], str(name))] if number else []
        volatile, _ = volatile.changed([origin], [(each, deadline) for each in add])
    return volatile


def by_comparing_all(before: Volatile, after: Volatile) -> Delta:
    present, wanted = frozenset(before.entries()), frozenset(after.entries())
    return Delta(tuple(present - wanted), tuple(wanted - present))


def sorted_entries(entries: tuple[Entry, ...]) -> list[Entry]:
    return sorted(entries, key=repr)


@given(STEPS, STEPS, STEPS)
def test_what_differs_is_what_comparing_all_entries_finds(
    first: list[tuple[int, int, int, float]],
    then: list[tuple[int, int, int, float]],
    other: list[tuple[int, int, int, float]],
) -> None:
    """Between a state and what was made of it, and between two that have nothing in common."""
    before = changed(Volatile(), first)
    for after in (changed(before, then), changed(Volatile(), other)):
        found, expected = before.difference(after), by_comparing_all(before, after)
        assert sorted_entries(found.removed) == sorted_entries(expected.removed)
        assert sorted_entries(found.added) == sorted_entries(expected.added)


def test_one_difference_in_a_hundred_thousand_entries_is_found_at_once() -> None:
    """It is asked for in the kernel's line, where bans wait for it."""
    table = row(0).table
    rule = row(0).filter_in_force
    before = Volatile()
    before.change(add=[Row(table, n.to_bytes(4, "big"), rule) for n in range(100_000)])
    after, delta = before.changed((), [(row(1 << 30), 7.0)])
    began = time.thread_time()
    assert before.difference(after) == delta
    assert time.thread_time() - began < 0.02
