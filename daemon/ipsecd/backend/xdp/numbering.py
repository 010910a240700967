"""Owns the numbers of rules: which counter is whose, in memory and in the maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from ipsecd.backend.base import Count, sum_of
from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp.counters import Counters
from ipsecd.backend.xdp.origins import origin_lines, put_origins
from ipsecd.errors import LimitExceeded
from ipsecd.model.values import Origin

Numbers = Mapping[Origin, int]


@dataclass(frozen=True)
class NextNumbers:
    """The numbers of the rules of the next policy, and of those that are in force before it.

    The lines for the map of origins are made when they are first asked for.
    """

    numbers: Numbers
    before: Numbers

    @cached_property
    def lines_at_switch(self) -> bytes:
        """The origins of the rules of both."""
        return origin_lines({**self.before, **self.numbers})

    @cached_property
    def lines_after(self) -> bytes:
        """The origins of the rules of the next policy."""
        return origin_lines(self.numbers)


class RuleNumbers:
    """The numbers of the rules in force, and those that others can have."""

    def __init__(self, origins: int, counters: Counters, most: int) -> None:
        """`origins` is the descriptor of the map of origins, which stays the caller's."""
        self.in_force: Numbers = {}
        self._origins = origins
        self._counters = counters
        self._most = most
        self._first_new = 0
        self._ended: dict[Origin, Count] = {}

    def have_room(self, origins: frozenset[Origin]) -> bool:
        """Whether rules can be in force together with those that are."""
        return len(self.in_force.keys() | origins) <= self._most

    def following(
        self, origins: frozenset[Origin], reserved: NextNumbers | None = None
    ) -> NextNumbers:
        """The number of every rule; new ones get numbers that nothing in force uses.

        Numbers that are `reserved` for rules are theirs. Raises ``LimitExceeded``.
        """
        if reserved and reserved.numbers.keys() == origins:
            return reserved
        before = self.in_force
        known = {**(reserved.numbers if reserved else {}), **before}
        numbers = {origin: known[origin] for origin in origins if origin in known}
        new = sorted(origins - numbers.keys())
        used = {*before.values(), *numbers.values()}
        free = (number for number in range(self._most) if number not in used)
        numbers.update(zip(new, free, strict=False))
        if len(numbers) < len(origins):
            raise LimitExceeded(
                f"the policies of before and after have more than {self._most} rules",
                "change the policy in several steps",
            )
        return NextNumbers(numbers, before)

    def used(self, following: NextNumbers, reserved: NextNumbers | None = None) -> list[int]:
        """The numbers of new rules whose counters have counted for others.

        Those that are `reserved` have been reset.
        """
        known = self.in_force.keys() | (reserved.numbers.keys() if reserved else set())
        return [
            number
            for origin, number in following.numbers.items()
            # A number that no rule has had yet has a counter of zero.
            if number < self._first_new and origin not in known
        ]

    def reset(self, numbers: Iterable[int]) -> None:
        """Have counters that nothing in force uses begin at zero; raises ``BackendFailed``."""
        try:
            for number in numbers:
                self._counters.set_rule(number, Count())
        except OSError as error:
            raise not_taken(error.strerror) from error

    def announce(self, following: NextNumbers) -> None:
        """Write the origins of new rules, beside those in force; raises ``BackendFailed``."""
        if following.numbers.keys() <= self.in_force.keys():
            return
        try:
            put_origins(self._origins, following.lines_at_switch)
        except OSError as error:
            raise not_taken(error.strerror) from error

    def replace(self, following: NextNumbers) -> None:
        """Take these numbers as those in force: no packet is counted by others any more."""
        before, self.in_force = self.in_force, following.numbers
        left = {o: self._counters.of_rule(n) for o, n in before.items() if o not in self.in_force}
        self._ended = sum_of(self._ended, left)
        self._first_new = max([self._first_new, *(n + 1 for n in self.in_force.values())])
        # Without this the next process would count on for a new rule with a removed one's name.
        if not before.keys() <= self.in_force.keys():
            with suppress(OSError):
                put_origins(self._origins, following.lines_after)

    def restore(self, counts: Mapping[Origin, Count]) -> None:
        """Go on counting from what the rules had counted before."""
        for origin, count in counts.items():
            number = self.in_force.get(origin)
            if number is not None and count != Count():
                self._counters.set_rule(number, count)

    def counts(self) -> dict[Origin, Count]:
        """What every rule in force has matched."""
        return {origin: self._counters.of_rule(n) for origin, n in self.in_force.items()}

    def take_ended(self) -> dict[Origin, Count]:
        """What rules had matched that have left; each is told once."""
        ended, self._ended = self._ended, {}
        return ended
