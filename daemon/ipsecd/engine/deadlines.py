"""Owns which dynamic rule ends next; must not know what ending means.

It only points at rules: a deadline counts while the rule of its name has it, so that rules may go
or come back without a word here.
"""

from __future__ import annotations

import heapq

from ipsecd.sources.dynamic import DynamicRule, DynamicRules

SPARE = 1000
"""How many deadlines of rules that are gone are kept, besides as many as there are rules."""


class Deadlines:
    """The deadlines of dynamic rules, the next one first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, rule: DynamicRule, rules: DynamicRules) -> None:
        """Note when a rule ends that is one of `rules` now."""
        if not rule.ends:
            return
        heapq.heappush(self._waiting, (rule.deadline, rule.name))
        if len(self._waiting) > 2 * len(rules) + SPARE:
            # Those of rules that were removed or renewed early.
            self._waiting = [(one.deadline, one.name) for one in rules if one.ends]
            heapq.heapify(self._waiting)

    def next(self, rules: DynamicRules) -> float | None:
        """When the next of `rules` ends, None if none does."""
        while self._waiting:
            deadline, name = self._waiting[0]
            rule = rules.get(name)
            if rule and rule.deadline == deadline:
                return deadline
            heapq.heappop(self._waiting)
        return None

    def ended(self, rules: DynamicRules, now: float) -> list[DynamicRule]:
        """Those of `rules` whose deadline has come; they are told again until they are gone."""
        found: dict[str, DynamicRule] = {}
        passed = []
        while (deadline := self.next(rules)) is not None and deadline <= now:
            passed.append(heapq.heappop(self._waiting))
            rule = rules.get(passed[-1][1])
            if rule:
                found[rule.name] = rule
        for one in passed:
            heapq.heappush(self._waiting, one)
        return list(found.values())
