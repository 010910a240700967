"""Many ranges of ports are looked up by a few comparisons, and none is missed."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.backend.nftables.port_ranges import (
    FEW,
    IN_A_CHAIN,
    LEVELS,
    MOST_COPIES,
    Stretch,
    stretches,
    ways,
)
from ipsecd.model.values import ALWAYS, MAX_PORT, Action
from tests.compiler.test_places import rendered, row_of

PORTS = st.integers(0, MAX_PORT)
SHORT = st.tuples(PORTS, st.integers(0, 300)).map(lambda it: (it[0], min(sum(it), MAX_PORT)))
ANY = st.tuples(PORTS, PORTS).map(lambda it: (min(it), max(it)))


def stretch_of(found: list[Stretch], port: int) -> Stretch:
    """The stretch that a packet for a port is led to."""
    return next(each for each in found if port <= each.last)


@settings(max_examples=50)
@given(st.lists(SHORT | ANY, min_size=FEW + 1, max_size=80))
def test_no_range_of_a_port_is_missing_where_it_leads(ranges: list[tuple[int, int]]) -> None:
    found = stretches(ranges)
    for port in {p for first, last in ranges for p in (first - 1, first, last, last + 1)}:
        if found and 0 <= port <= MAX_PORT:
            numbers = stretch_of(found, port).numbers
            assert list(numbers) == sorted(numbers)
            assert {n for n, (first, last) in enumerate(ranges) if first <= port <= last} <= set(
                numbers
            )
    assert sum(len(each.numbers) for each in found) <= MOST_COPIES * len(ranges) + len(ranges)
    assert not found or found[-1].last == MAX_PORT


def test_ranges_that_lie_apart_are_few_where_a_port_leads() -> None:
    ranges = [(first, first + 2) for first in range(1, 40_000, 5)]
    Random(1).shuffle(ranges)
    found = stretches(ranges)
    assert max(len(each.numbers) for each in found) <= IN_A_CHAIN
    assert ways(len(found)) ** LEVELS >= len(found)


def test_few_ranges_and_those_in_each_other_stand_one_after_the_other() -> None:
    assert stretches([(first, first + 2) for first in range(1, 5 * FEW, 5)]) == []
    assert stretches([(n, MAX_PORT - n) for n in range(1000)]) == []


def test_hundreds_of_ranges_fit_into_the_kernel_and_each_stands_once() -> None:
    """It takes 16 chains in a row."""
    texts = [f"*=0:{first}-{first + 1}:TCP" for first in range(1, 1200, 3)]
    ruleset = rendered(*((text, Action.BLOCK, ALWAYS) for text in texts))
    assert row_of(ruleset, "arriving") <= 14
    assert max(map(len, ruleset.chains.values())) < 20
