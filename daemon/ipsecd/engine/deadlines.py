"""Owns which dynamic rule ends next; must not know what ending means.

It keeps names of rules with deadlines. A deadline counts only while the rule of that name still has
it, so rules may be removed or renewed without this being told.
"""

from __future__ import annotations

import heapq

from ipsecd.sources.dynamic import DynamicRule, DynamicRules

SPARE = 1000
"""How many deadlines of removed rules are kept at most, besides one for each rule there is."""


class Deadlines:
    """The deadlines of dynamic rules, the next one first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, rule: DynamicRule, rules: DynamicRules) -> None:
        """Note when `rule` ends, which is one of `rules` already."""
        if not rule.ends:
            return
        heapq.heappush(self._waiting, (rule.deadline, rule.name))
        if len(self._waiting) > 2 * len(rules) + SPARE:
            # Most deadlines are of rules that were removed, or renewed before they ended.
            self._waiting = [(kept.deadline, kept.name) for kept in rules if kept.ends]
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
        """Those of `rules` whose deadline has come, again and again until they are removed."""
        ended: dict[str, DynamicRule] = {}
        passed = []
        while (deadline := self.next(rules)) is not None and deadline <= now:
            passed.append(heapq.heappop(self._waiting))
            rule = rules.get(passed[-1][1])
            if rule:
                ended[rule.name] = rule
        for deadline_and_name in passed:
            heapq.heappush(self._waiting, deadline_and_name)
        return list(ended.values())
