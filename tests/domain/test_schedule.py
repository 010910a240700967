"""When looks are due: in intervals with chance in them, soon after a ring, and later and later."""

from __future__ import annotations

import pytest

from ipsecd_domain.fetcher.schedule import (
    FAILURE_FIRST_S,
    FAILURE_MOST_S,
    RING_FIRST_S,
    RING_MOST_S,
    RING_SPREAD_S,
    Backoff,
    Schedule,
)

HOUR_S = 3600.0


@pytest.mark.parametrize(("chance", "due_s"), [(0.0, 3600.0), (0.5, 4200.0), (1.0, 4800.0)])
def test_a_look_is_due_after_the_interval_and_up_to_a_third_more(
    chance: float, due_s: float
) -> None:
    """As Group Policy adds up to 30 minutes to its 90."""
    schedule = Schedule(lambda: chance)
    schedule.look_went_well(100.0, HOUR_S, news=True)
    assert schedule.due_at == pytest.approx(100.0 + due_s)


def test_pauses_after_failures_double_up_to_a_bound() -> None:
    """Half of each is chance; a look that goes well begins them anew."""
    schedule, pauses = Schedule(lambda: 1.0), []
    for _ in range(12):
        schedule.look_failed(0.0, HOUR_S)
        pauses.append(schedule.due_at)
    assert pauses[:3] == [FAILURE_FIRST_S, 2 * FAILURE_FIRST_S, 4 * FAILURE_FIRST_S]
    assert pauses[-1] == FAILURE_MOST_S
    schedule.look_went_well(0.0, HOUR_S, news=False)
    schedule.look_failed(0.0, HOUR_S)
    assert schedule.due_at == FAILURE_FIRST_S
    assert Backoff(8.0, 8.0, lambda: 0.0).next_s() == 4.0


def test_a_failure_is_never_followed_by_a_longer_pause_than_a_look_that_went_well() -> None:
    """A short interval was asked for with a purpose."""
    schedule = Schedule(lambda: 0.9)
    for _ in range(20):
        schedule.look_failed(0.0, 30.0)
    assert schedule.due_at <= 30.0


def test_a_ring_makes_a_look_due_at_once_but_not_in_one_moment_for_all() -> None:
    """Chance spreads a fleet over two seconds."""
    for chance in (0.0, 0.5, 1.0):
        schedule = Schedule(lambda chance=chance: chance)  # type: ignore[misc]
        schedule.look_went_well(0.0, HOUR_S, news=True)
        schedule.was_rung(10.0)
        assert schedule.due_at == 10.0 + RING_SPREAD_S * chance


def test_rings_that_bring_nothing_are_heard_less_and_less() -> None:
    """Whoever has the password of the doorbell cannot turn a fleet on its web server."""
    schedule = Schedule(lambda: 1.0)
    time, looks = 0.0, 0
    schedule.look_went_well(time, HOUR_S, news=True)
    while time < HOUR_S:
        schedule.was_rung(time)
        time = schedule.due_at
        schedule.look_went_well(time, HOUR_S, news=False)
        looks += 1
    assert looks < 24
    # One that brings something has them heard at once again.
    schedule.look_went_well(time, HOUR_S, news=True)
    schedule.was_rung(time)
    assert schedule.due_at <= time + RING_SPREAD_S
    assert RING_FIRST_S < RING_MOST_S


def test_a_ring_is_no_reason_to_look_later() -> None:
    """What is due already stays due."""
    schedule = Schedule(lambda: 1.0)
    schedule.due_at = 5.0
    schedule.was_rung(5.0)
    assert schedule.due_at == 5.0
    schedule.look_now(3.0)
    assert schedule.due_at == 3.0
