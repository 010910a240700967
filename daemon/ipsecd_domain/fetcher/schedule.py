"""Owns when the next look is due; must not know clocks, threads or sources.

Group Policy looks every 90 minutes and up to 30 minutes later, so that a fleet that was switched on
at one moment does not ask at one moment: here too it is the interval and up to a third of it more.
"""

from __future__ import annotations

from collections.abc import Callable

JITTER = 1 / 3
"""The share of the interval that chance may add."""
FAILURE_FIRST_S, FAILURE_MOST_S = 5.0, 900.0
"""The pauses after failures: the first one, and what doubling ends at."""
RING_SPREAD_S = 2.0
"""Hosts that hear the same ring look within this time, and not all at once."""
RING_FIRST_S, RING_MOST_S = 2.0, 300.0
"""The pauses after rings that brought nothing new."""

Chance = Callable[[], float]
"""Gives a number from 0 up to 1, another one each time."""


class Backoff:
    """Pauses that double from the first to the longest, each with chance in its second half."""

    def __init__(self, first_s: float, most_s: float, chance: Chance) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._chance = chance
        self._whole_s = first_s

    def next_s(self) -> float:
        """The pause after one more failure, in seconds."""
        whole_s = self._whole_s
        self._whole_s = min(whole_s * 2, self._most_s)
        return whole_s * (1 + self._chance()) / 2

    def reset(self) -> None:
        """All is well again: the next pause is the first."""
        self._whole_s = self._first_s


class Schedule:
    """When the next look is due, in seconds of one clock that its caller reads."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._after_failure = Backoff(FAILURE_FIRST_S, FAILURE_MOST_S, chance)
        self._after_ring = Backoff(RING_FIRST_S, RING_MOST_S, chance)
        self._rung = False
        self._quiet_until = 0.0
        self.due_at = 0.0

    def look_went_well(self, now: float, interval_s: float, *, news: bool) -> None:
        """The next look is after the interval; `news` says whether this one brought anything."""
        self._after_failure.reset()
        if news:
            self._after_ring.reset()
            self._quiet_until = now
        elif self._rung:
            self._quiet_until = now + self._after_ring.next_s()
        self._rung = False
        self.due_at = now + interval_s * (1 + JITTER * self._chance())

    def look_failed(self, now: float, interval_s: float) -> None:
        """The next look is after a pause, which is never longer than the interval."""
        self._rung = False
        self.due_at = now + min(self._after_failure.next_s(), interval_s)

    def was_rung(self, now: float) -> None:
        """Look soon: within the spread, or once the pause after a ring without news is over."""
        if not self._rung:
            self._rung = True
            start = max(now, self._quiet_until)
            self.due_at = min(self.due_at, start + RING_SPREAD_S * self._chance())

    def look_now(self, now: float) -> None:
        """Somebody on this host asked for a look, or files have changed."""
        self.due_at = min(self.due_at, now)
