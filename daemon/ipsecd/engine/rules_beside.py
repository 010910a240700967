"""Owns dynamic rules that change in the same moment as policies; must not know the policies.

They are checked as all dynamic rules are, by what is in force when the change begins, and again by
what is at the switch: others may have changed rules meanwhile, and theirs stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ipsecd.engine.dynamic import DynamicRuleChanges
from ipsecd.engine.names import StateChange
from ipsecd.engine.quarantines import change_dynamic_rules, is_of_quarantine
from ipsecd.engine.state import State
from ipsecd.errors import Changed
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule, DynamicRules
from ipsecd.sources.made import written_by
from ipsecd.sources.steps import Step


@dataclass(frozen=True, slots=True)
class RulesBeside:
    """Rules to be put in force, each in the place of the one of its name, and names to be removed.

    A name without a rule is no error, and neither is one of a quarantine: its rules stay. Of these
    names the rules have to be the ``expected`` ones, if there are any.
    """

    changes: DynamicRuleChanges
    put: Sequence[DynamicRule]
    remove: Sequence[str]
    expected: DynamicRules | None = None

    def change(self, state: State) -> StateChange:
        """The state with these rules, made of `state`; raises ``IpsecdError`` if one cannot be."""
        self._must_be_as_expected(state)
        removed = self._removed(state)
        with_rows = self.changes.checked_rows(self.put, state, len(removed))
        new, delta = change_dynamic_rules(state, removed, with_rows)
        return new, delta, ()

    def begin(self, steps: Sequence[Step]) -> None:
        """Have the next process change the rules, if this one ends when `steps` are done."""
        removed = [rule.name for rule in self._removed(self.changes.enforcement.state)]
        self.changes.file.begin(written_by(steps), self.put, removed)

    def carry_out(self) -> None:
        """Have the rules in force, where nothing else changes; for the kernel's line."""
        now = self.changes.enforcement.state
        new, delta, _ = self.change(now)
        self.changes.enforcement.put_in_force(new, delta)
        self.keep(now, new)

    def keep(self, before: State, after: State) -> None:
        """Keep the rules for the next process, and have them end in time."""
        for rule in self.put:
            self.changes.deadlines.add(rule, after.dynamic)
        removed = [rule.name for rule in self._removed(before)]
        self.changes.file.changed(self.put, removed, is_begun=True)

    def _must_be_as_expected(self, state: State) -> None:
        if self.expected is None:
            return
        for name in (*(rule.name for rule in self.put), *self.remove):
            if state.dynamic.get(name) != self.expected.get(name):
                raise Changed(
                    f"somebody else has changed the dynamic rule {quote(name)} meanwhile",
                    "look at what is there now, and try again",
                )

    def _removed(self, state: State) -> list[DynamicRule]:
        put = {rule.name for rule in self.put}
        return [
            rule
            for name in dict.fromkeys(self.remove)
            if name not in put
            and (rule := state.dynamic.get(name))
            and not is_of_quarantine(state, name)
        ]
