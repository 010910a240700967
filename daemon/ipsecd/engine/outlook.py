"""Owns the states that changes would lead to; puts nothing in force, and writes nothing.

Must not know why somebody wants to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ipsecd.engine.compiling import Names, classifier_by_names
from ipsecd.engine.policies import Policies
from ipsecd.engine.quarantines import with_own_rules
from ipsecd.engine.sources import SourceName
from ipsecd.engine.state import Condition, State
from ipsecd.language.documents import format_policy
from ipsecd.model.values import Policy
from ipsecd.progress import silent
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.planning import Written
from ipsecd.sources.reading import Loaded, StoredPolicy
from ipsecd.sources.static import KEEP, Keep, StaticStore


@dataclass(frozen=True, slots=True)
class Outlook:
    """Makes the states that would be in force."""

    policies: Policies

    def changed(
        self,
        now: State,
        written: Sequence[Written] = (),
        assign: str | Keep | None = KEEP,
        names: Names | None = None,
    ) -> State:
        """`now` after policies were stored and assigned; raises why they could not be."""
        policies = self.policies
        # What is only thought of is not to be remembered as what was read is.
        store = StaticStore(policies.store.directory)
        change = store.change(now.loaded, written=written, assign=assign, read=policies.read)
        return self.holding(now, change.after, names or {})

    def holding(self, now: State, content: Loaded, names: Names) -> State:
        """`now` if the static store held `content`; raises why that could not be in force."""
        known_names = {**now.names, **names}
        choice = self.policies.choose_or_keep(content, known_names, silent)
        return _with_policy(now, choice.source, choice.compiled) if choice else now

    def assumed(self, state: State, policy: Policy | None, names: Names) -> State:
        """`state` as if a policy were in force in it, or none, whatever is."""
        known_names = {**state.names, **names}
        stored = StoredPolicy(policy, "", format_policy(policy)) if policy else None
        compiled = self.policies.compiling.compile(stored, known_names)
        new = _with_policy(state, SourceName.STATIC, compiled)
        return replace(new, condition=Condition.ENFORCING)


def _with_policy(state: State, source: SourceName, compiled: CompiledPolicy) -> State:
    """`state` with another policy, as it is when that is put in force."""
    classifier = classifier_by_names(compiled, state.inventory, state.lists)
    new = state.with_policy(source, compiled, classifier)
    return (new if compiled is state.compiled else with_own_rules(new)).with_used_lists()
