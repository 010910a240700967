"""Owns changes to the dynamic rules and quarantines, and what the next process is left of them.

Each is one effect in the kernel, and costs the same however many rules there are. What is done is
kept for the next process before it is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.engine.compiling import rows_for
from ipsecd.engine.deadlines import Deadlines
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.quarantines import changed, rule_names
from ipsecd.engine.state import State
from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.log import record
from ipsecd.model.inventory import has_selectors
from ipsecd.model.quarantine import Quarantine
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.dynamic_file import DynamicFile


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Adds, removes and ends dynamic rules; ``clock`` is monotonic, in seconds."""

    enforcement: Enforcement
    file: DynamicFile
    limit: int
    clock: Callable[[], float]
    deadlines: Deadlines = field(default_factory=Deadlines)

    def taken_over(self, state: State) -> State:
        """A state with what an earlier process has left; nothing is in force by it yet."""
        left = self.file.load(self.clock())
        come = []
        for rule in left.rules:
            rows = rows_for(rule, state.inventory)
            try:
                if any(row.table.process for row in rows):
                    self.enforcement.backend.check(compile_filters(rule.in_force))
            except IpsecdError as error:
                record(logging.ERROR, "dynamic-rule-lost", rule=rule.name, reason=error.message)
                self.file.removed([rule.name])
                continue
            come.append((rule, rows))
        new, _ = changed(state, come=come)
        for rule, _ in come:
            self.deadlines.add(rule, new.dynamic)
        taken_over = len(come) + len(left.quarantines)
        if taken_over:
            record(logging.INFO, "dynamic-rules-taken-over", rules=taken_over)
        quarantines = {one.name: one for one in left.quarantines}
        return replace(new, quarantines=quarantines, taken_over=taken_over)

    def add(self, rule: DynamicRule) -> None:
        """Enforce a rule, in the place of the one that has its name, if any."""
        now = self.enforcement.state
        now.must_run()
        now.dynamic.check_room(rule.name, self.limit)
        if rule.name in rule_names(now):
            raise Refused(
                f"{quote(rule.name)} is the name of a rule of a quarantine", "choose another name"
            )
        rows = rows_for(rule, now.inventory)
        if any(row.table.process for row in rows):
            self.enforcement.check(compile_filters(rule.in_force))
        if not rows and not any(map(has_selectors, rule.filters)):
            raise InvalidInput(
                "the filters match nothing: traffic from this host to itself is not filtered",
                "one of the two addresses must be another's",
            )
        new, delta = changed(now, come=[(rule, rows)])
        self.enforcement.become(new, delta)
        self.deadlines.add(rule, new.dynamic)
        self.file.added(rule)

    def remove(self, rules: Sequence[DynamicRule]) -> Sequence[DynamicRule]:
        """Take rules out of force, all at once, but for those of quarantines; which they were.

        Raises ``Refused`` if there are no others.
        """
        now = self.enforcement.state
        if rules:
            now.must_run()
        names = rule_names(now)
        ordinary = [rule for rule in rules if rule.name not in names]
        if rules and not ordinary:
            raise Refused(
                f"rule {quote(rules[0].name)} belongs to a quarantine",
                "end that with: ipsecctl release",
            )
        self._remove(ordinary)
        return ordinary

    def flush(self) -> int:
        """Take all rules out of force, and end all quarantines; how many rules there were."""
        now = self.enforcement.state
        if now.dynamic:
            now.must_run()
        new = replace(now, quarantines={}, dynamic=now.dynamic.cleared(), volatile=Volatile())
        self._become(new, Delta(removed=tuple(now.volatile.entries())))
        self.file.removed(rule.name for rule in now.dynamic)
        self.file.released(now.quarantines)
        return len(now.dynamic)

    def impose(self, quarantine: Quarantine) -> tuple[DynamicRule, ...]:
        """Cut off who is in a quarantine, from now on whatever is permitted; by which rules."""
        now = self.enforcement.state
        now.must_run()
        for name in quarantine.rule_names:
            now.dynamic.check_room(name, self.limit)
        quarantines = {**now.quarantines, quarantine.name: quarantine}
        new, delta = changed(replace(now, quarantines=quarantines), permits_changed=True)
        self.enforcement.become(new, delta)
        # Rules that somebody made had these names until now.
        self.file.removed(quarantine.rule_names)
        self.file.imposed(quarantine)
        return tuple(
            rule for name in quarantine.rule_names if (rule := new.dynamic.get(name)) is not None
        )

    def release(self, names: Sequence[str]) -> tuple[str, ...]:
        """End quarantines; the names of the rules that they had."""
        now = self.enforcement.state
        ended = [now.quarantines[name] for name in names if name in now.quarantines]
        left = {name: one for name, one in now.quarantines.items() if name not in names}
        rules = [
            rule
            for one in ended
            for name in one.rule_names
            if (rule := now.dynamic.get(name)) is not None
        ]
        new, delta = changed(replace(now, quarantines=left), rules)
        self._become(new, delta)
        self.file.released(one.name for one in ended)
        return tuple(rule.name for rule in rules)

    def next_expiry(self) -> float | None:
        """When the next rule or quarantine ends, in monotonic seconds; None if none does."""
        state = self.enforcement.state
        ends = [one.deadline for one in state.quarantines.values() if one.ends]
        if (rule := self.deadlines.next(state.dynamic)) is not None:
            ends.append(rule)
        return min(ends, default=None)

    def expire(self) -> None:
        """Forget what has ended; the kernel ended it by itself."""
        now, state = self.clock(), self.enforcement.state
        over = [one.name for one in state.quarantines.values() if one.deadline <= now]
        if over:
            self.release(over)
            for name in over:
                record(logging.INFO, "quarantine-ended", who=name)
        ended = self.deadlines.ended(self.enforcement.state.dynamic, now)
        if ended:
            self._remove(ended)
            for rule in ended:
                record(logging.INFO, "dynamic-rule-ended", rule=rule.name)

    def _become(self, new: State, delta: Delta) -> None:
        """Carry out what takes rules away; what is held has ended in the kernel by itself."""
        if new.enforcing:
            self.enforcement.become(new, delta)
        else:
            self.enforcement.note(new)

    def _remove(self, rules: Sequence[DynamicRule]) -> None:
        new, delta = changed(self.enforcement.state, rules)
        self._become(new, delta)
        self.file.removed(rule.name for rule in rules)
