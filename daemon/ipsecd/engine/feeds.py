"""Owns when lists that come from URLs are due, and what went wrong; must not know how they come.

1. After a failure a feed is due again soon, and later each time, but never later than without.
2. Many hosts do not ask at one moment: chance adds up to a tenth to each interval.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ipsecd.quoting import quote
from ipsecd.sources.lists import ListStore

JITTER = 0.1
"""The share of the interval that chance may add."""
FIRST_S, MOST_S = 60.0, 6 * 3600.0
"""The pauses after failures: the first one, and what doubling ends at."""
SPREAD_S = 60.0
"""What is overdue at a start is asked for within this time, and not all at once."""


def stays(name: str) -> str:
    """How it is said of a list that what came for it is not taken; the reason follows."""
    return f"list {quote(name)} stays as it was: "


@dataclass
class Feeds:
    """The feeds of all lists; in memory alone, as a start asks again."""

    store: ListStore
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why the last attempt failed, by list, until one goes well. It never changes: others read it
    in threads of their own, and a change makes another."""
    _due: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)

    def next(self) -> tuple[float, str] | None:
        """When the next feed is due, in seconds since the epoch, and of which list; or None."""
        feeds = {name: stored.feed for name, stored in self.store.lists.items() if stored.feed}
        for gone in self._due.keys() - feeds.keys():
            self.forget(gone)
        now = self.clock()
        for name, feed in feeds.items():
            if name not in self._due:
                regular = feed.checked + feed.every_s
                soon = now + SPREAD_S * self.chance()
                # A clock that was wrong must not put it off for ever.
                self._due[name] = min(max(regular, soon), now + feed.every_s)
        return min(((due, name) for name, due in self._due.items()), default=None)

    def went_well(self, name: str) -> None:
        """The list has what its feed holds."""
        self.forget(name)
        feed = self.store.lists[name].feed if name in self.store.lists else None
        if feed:
            self._due[name] = self.clock() + feed.every_s * (1 + JITTER * self.chance())

    def failed(self, name: str, problem: str) -> None:
        """The feed of a list could not be had, or was not taken."""
        feed = self.store.lists[name].feed if name in self.store.lists else None
        if feed is None:
            return
        self.problems = {**self.problems, name: problem.removeprefix(stays(name))}
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        pause_s = min(FIRST_S * 2 ** min(failures - 1, 20), MOST_S, feed.every_s)
        self._due[name] = self.clock() + pause_s * (1 + self.chance()) / 2

    def problem_of(self, name: str) -> tuple[str, ...]:
        """Why the last attempt to have the feed of a list failed, if it did."""
        problem = self.problems.get(name)
        return (problem,) if problem else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong, in words."""
        return tuple(
            f"{stays(name)}{problem}"
            for name, problem in sorted(self.problems.items())
            if name in self.store.lists
        )

    def forget(self, name: str) -> None:
        """Begin anew with the feed of a list: it is another one, or there is none any more."""
        self.problems = {key: text for key, text in self.problems.items() if key != name}
        for held in (self._due, self._failures):
            held.pop(name, None)
