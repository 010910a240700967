"""Owns the states that were in force in the last moments, for packets that are told of later."""

from __future__ import annotations

import time

from ipsecd.engine.state import State

KEPT_NS = 3_000_000_000
"""How long a state is kept after another took its place: packets are told of within a second."""
TOGETHER_NS = 10_000_000
"""States that follow one another within this time count as the last of them: of bans that come by
the thousand a second, few states are looked at."""
TRIED = 4
"""How many states are asked what they do with a packet."""


class RecentStates:
    """States with the times from which on they were in force, while somebody asks for them."""

    def __init__(self) -> None:
        self._states: tuple[tuple[int, State], ...] = ()

    def begin(self, state: State) -> None:
        """Keep states from now on, if that was not begun."""
        if not self._states:
            self._states = ((time.time_ns(), state),)

    def end(self) -> None:
        """Keep no states."""
        self._states = ()

    def heard(self, state: State) -> None:
        """Another state is in force, and is kept if any are."""
        states = self._states
        if not states:
            return
        now = time.time_ns()
        if now - states[-1][0] < TOGETHER_NS:
            self._states = (*states[:-1], (states[-1][0], state))
            return
        # The one that was in force at the beginning of the time is kept, too.
        first = next((n for n, (at, _) in enumerate(states) if at > now - KEPT_NS), len(states))
        self._states = (*states[max(first - 1, 0) :], (now, state))

    def at(self, at_ns: int) -> list[State]:
        """The states that may have judged a packet then, the most likely first; for any thread."""
        states = self._states
        if not states:
            return []
        number = max((n for n, (since, _) in enumerate(states) if since <= at_ns), default=0)
        # What is in force is known a moment after the kernel knows it.
        later, earlier = states[number : number + TRIED - 1], states[:number][::-1]
        return [state for _, state in (*later, *earlier)][:TRIED]
