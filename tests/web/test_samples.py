"""Counts over time are differences, whatever becomes of rules and of the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecctl.web.charts import Line, Point, rates
from ipsecctl.web.samples import EVERY_S, KEPT_S, Samples, busiest
from tests.web.test_markup import Reader


def count(
    name: str, packets: int, action: str = "block", since: str | None = None
) -> dict[str, Any]:
    rule = {"store": "static", "policy": "P", "rule": name, "action": action}
    return {**rule, "packets": packets, "since": since}


def test_the_first_counts_say_only_where_it_begins() -> None:
    """What was matched before the page ran is of no time that it knows."""
    samples = Samples()
    samples.take([count("a", 1000)], 100.0)
    assert not samples.kept
    samples.take([count("a", 1007), count("b", 5, "permit")], 110.0)
    (sample,) = samples.kept
    assert (sample.at, sample.seconds) == (110.0, 10.0)
    assert sample.packets == {"block": 7, "permit": 5}


def test_a_rule_that_is_made_anew_counts_from_nothing() -> None:
    """Its count is lower than before, and there is no negative number of packets."""
    samples = Samples()
    for at, packets in ((1.0, 50), (2.0, 60), (3.0, 4)):
        samples.take([count("a", packets)], at)
    assert [sample.packets["block"] for sample in samples.kept] == [10, 4]
    samples.take([], 4.0)
    assert samples.kept[-1].packets == {}


def test_a_rule_that_comes_back_brings_nothing_of_before() -> None:
    """Such as a block that was an audit meanwhile: what it dropped long ago is of no sample."""
    samples = Samples()
    long_ago, lately = "2026-11-30T15:00:00Z", "2026-12-01T00:00:05Z"
    at = 1796083200.0
    samples.take([count("tried", 9, "audit", long_ago)], at)
    samples.take(
        [count("tried", 5000, "block", long_ago), count("new", 3, "block", lately)], at + 9
    )
    samples.take(
        [count("tried", 5007, "block", long_ago), count("new", 3, "block", lately)], at + 19
    )
    assert [sample.packets for sample in samples.kept] == [{"block": 3}, {"block": 7}]


def test_what_was_matched_while_nobody_answered_is_of_no_time() -> None:
    """A gap stays one, and is not counted into the seconds after it."""
    samples = Samples()
    samples.take([count("a", 1)], 1.0)
    samples.forget()
    samples.take([count("a", 1000)], 500.0)
    assert not samples.kept
    samples.take([count("a", 1003)], 510.0)
    assert [sample.packets["block"] for sample in samples.kept] == [3]


def test_a_clock_that_is_set_back_makes_no_sample() -> None:
    """Nor a division by nothing; it goes on from there."""
    samples = Samples()
    for at, packets in ((100.0, 1), (100.0, 5), (50.0, 9), (60.0, 11)):
        samples.take([count("a", packets)], at)
    assert [(sample.at, sample.packets["block"]) for sample in samples.kept] == [(60.0, 2)]


def test_memory_is_bounded_by_time_and_by_rules() -> None:
    """A day is kept, and of each sample the rules that matched most."""
    samples = Samples()
    assert samples.kept.maxlen == KEPT_S / EVERY_S
    samples.take([], 0.0)
    samples.take([count(str(n), n) for n in range(1000)], 1.0)
    (sample,) = samples.kept
    assert sample.packets["block"] == sum(range(1000))
    assert [rule[2] for rule, _ in busiest([sample], 2)] == ["999", "998"]
    assert len(sample.rules) == 20


@pytest.mark.parametrize("number", [0.0, 3.0, 1e3, 123_456_789.0])
def test_a_drawing_has_its_numbers_inside(number: float) -> None:
    """The highest point is within the drawing, and the scale is not below it."""
    points = [Point(10.0 * n, 10.0, 10.0 * number) for n in range(1, 7)]
    drawn = Reader(rates([Line("block", points)], 0.0, 60.0, "packets"))
    (path,) = [given for name, given in drawn.elements if name == "path"]
    heights = (
        [float(step.split("H")[0].split()[1]) for step in path["d"].split("L") or []]
        if path["d"]
        else []
    )
    assert heights
    assert all(0 <= height <= 240 for height in heights)


def test_a_gap_is_no_line() -> None:
    """Where nothing is known nothing is drawn, and it is not nought."""
    points = [Point(10.0, 10.0, 5.0), Point(60.0, 10.0, 5.0)]
    drawn = Reader(rates([Line("block", points)], 0.0, 60.0, "packets"))
    (path,) = [given for name, given in drawn.elements if name == "path"]
    assert (path["d"] or "").count("M") == 2
