"""Owns changes to the dynamic rules; nothing of them is on disk.

Each is one effect in the kernel, and costs the same however many rules there are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ipsecd.compiler.policy import compile_filters
from ipsecd.engine.compiling import rows_for
from ipsecd.engine.deadlines import Deadlines
from ipsecd.engine.enforcement import Enforcement
from ipsecd.errors import InvalidInput
from ipsecd.journal import record
from ipsecd.model.inventory import has_selectors
from ipsecd.stores.dynamic import DynamicRule


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Adds, removes and ends dynamic rules; ``clock`` is monotonic, in seconds."""

    enforcement: Enforcement
    limit: int
    clock: Callable[[], float]
    deadlines: Deadlines = field(default_factory=Deadlines)

    def add(self, rule: DynamicRule) -> None:
        """Enforce a rule, in the place of the one that has its name, if any."""
        now = self.enforcement.state
        now.must_run()
        now.dynamic.check_room(rule.name, self.limit)
        rows = rows_for(rule, now.inventory)
        if any(row.table.process for row in rows):
            self.enforcement.check(compile_filters(rule.in_force))
        if not rows and not any(map(has_selectors, rule.filters)):
            raise InvalidInput(
                "the filters match nothing: traffic from this host to itself is not filtered",
                "one of the two addresses must be another's",
            )
        volatile, delta = now.volatile.changed(
            remove=[rule.origin] if now.dynamic.get(rule.name) else [],
            add=[(row, rule.deadline) for row in rows],
        )
        new = replace(now, dynamic=now.dynamic.with_rule(rule), volatile=volatile)
        self.enforcement.become(new, delta)
        self.deadlines.add(rule, new.dynamic)

    def remove(self, rules: Sequence[DynamicRule]) -> None:
        """Take rules out of force, all at once."""
        now = self.enforcement.state
        volatile, delta = now.volatile.changed(remove=[rule.origin for rule in rules])
        left = now.dynamic
        for rule in rules:
            left = left.without(rule.name)
        self.enforcement.become(replace(now, dynamic=left, volatile=volatile), delta)

    def flush(self) -> int:
        """Take all rules out of force; how many there were."""
        rules = list(self.enforcement.state.dynamic)
        self.remove(rules)
        return len(rules)

    def next_expiry(self) -> float | None:
        """When the next rule ends, in monotonic seconds; None if none does."""
        return self.deadlines.next(self.enforcement.state.dynamic)

    def expire(self) -> None:
        """Forget the rules that have ended; the kernel ended them by itself."""
        ended = self.deadlines.ended(self.enforcement.state.dynamic, self.clock())
        if ended:
            self.remove(ended)
            for rule in ended:
                record(logging.INFO, "dynamic-rule-ended", rule=rule.name)
