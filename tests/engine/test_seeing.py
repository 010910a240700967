"""What is counted of dropped packets goes on, whichever backend drops them."""

from __future__ import annotations

import time
from typing import cast

import pytest

from ipsecd.backend.joined_reports import JoinedReports
from ipsecd.backend.memory import MemoryReporting
from ipsecd.backend.reporting import Report, Reporting
from ipsecd.engine.seeing import Seeing
from ipsecd.errors import Refused
from ipsecd.model.packets import Point
from ipsecd.model.values import Action
from tests.engine.site import Site


def drop(reporting: MemoryReporting, count: int) -> None:
    report = Report(time.time_ns(), Action.BLOCK, Point.ARRIVING, 0, 20, b"", b"")
    reporting.drop([report] * count)


class Bench:
    """An engine whose backend has what a test gives it to tell of packets."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seeing: Seeing = site.engine.seeing

    def has(self, reporting: Reporting | None) -> None:
        self.site.backend.reporting = cast("MemoryReporting", reporting)

    def count(self, budget: int = 10) -> int:
        return self.seeing.look(budget)[1]


@pytest.fixture
def bench(site: Site) -> Bench:
    return Bench(site)


def test_what_is_joined_anew_each_time_is_counted_once(bench: Bench) -> None:
    """The joined one may be another object whenever it is asked for; its parts are the same."""
    first, second = MemoryReporting(), MemoryReporting()
    for looks in range(1, 4):
        bench.has(JoinedReports((first, second)))
        assert bench.count() == (looks - 1) * 5
        drop(first, 3)
        drop(second, 2)
    assert bench.count() == 15


def test_a_backend_that_takes_over_counts_on(bench: Bench) -> None:
    """What both have is not counted twice, and what has gone is not forgotten."""
    kept, gone, new = MemoryReporting(), MemoryReporting(), MemoryReporting()
    bench.has(JoinedReports((kept, gone)))
    assert bench.count() == 0
    drop(kept, 5)
    drop(gone, 7)
    assert bench.count() == 12
    bench.has(JoinedReports((kept, new)))
    assert bench.count() == 12
    drop(new, 1)
    drop(kept, 1)
    assert bench.count() == 14
    bench.has(new)
    assert bench.count() == 14


def test_it_begins_anew_when_it_was_switched_off(bench: Bench) -> None:
    """Then nothing was told of, and nothing is counted."""
    reporting = MemoryReporting()
    bench.has(reporting)
    assert bench.count() == 0
    drop(reporting, 5)
    assert bench.count() == 5
    assert bench.count(budget=0) == 0
    drop(reporting, 5)
    assert bench.count() == 0


def test_a_backend_that_cannot_tell_is_named(bench: Bench) -> None:
    """Whoever watches is told why."""
    bench.has(None)
    with pytest.raises(Refused, match="backend memory cannot tell"):
        bench.count()
