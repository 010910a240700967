"""Owns how dynamic rules change while there are quarantines, whose rules depend on all permits.

It is pure: it makes a new state from a state. When a policy or a dynamic rule changes what is
permitted, the rules of quarantines are made anew here before the kernel is given the new state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from ipsecd.compiler.rows import Row
from ipsecd.compiler.volatile import Delta
from ipsecd.engine.compiling import rows_for
from ipsecd.engine.state import State
from ipsecd.model.quarantine import Permit, Quarantine, parts_of_quarantine
from ipsecd.model.values import Action, Rule
from ipsecd.sources.dynamic import DynamicRule


def change_dynamic_rules(
    state: State,
    removed: Iterable[DynamicRule] = (),
    added: Sequence[tuple[DynamicRule, Sequence[Row]]] = (),
    *,
    permits_changed: bool = False,
) -> tuple[State, Delta]:
    """`state` without some dynamic rules and with others, and how that changes the entries.

    A rule that is added, with its rows, replaces the rule of its name. `permits_changed` says that
    the permits of the policy or of the quarantines have changed since the rules of quarantines in
    `state` were made.
    """
    removed_by_name = {rule.name: rule for rule in removed}
    dynamic = state.dynamic
    for name in removed_by_name:
        dynamic = dynamic.without(name)
    for rule, _ in added:
        if replaced := state.dynamic.get(rule.name):
            removed_by_name[rule.name] = replaced
    dynamic = dynamic.with_rules(rule for rule, _ in added)
    added_rows = [(row, rule.deadline) for rule, rows in added for row in rows]
    touched = (*removed_by_name.values(), *(rule for rule, _ in added))
    permits_changed = permits_changed or any(rule.action is Action.PERMIT for rule in touched)
    if state.quarantines and permits_changed:
        with_changes = replace(state, dynamic=dynamic)
        permits = [*_permits(with_changes)]
        for quarantine in state.quarantines.values():
            wanted = {rule.name: rule for rule in rules_of_quarantine(quarantine, permits)}
            present = filter(quarantine.owns, with_changes.dynamic.by_name)
            for name in dict.fromkeys((*present, *wanted)):
                old_rule, new_rule = dynamic.get(name), wanted.get(name)
                if old_rule == new_rule:
                    continue
                if old_rule:
                    removed_by_name[name] = old_rule
                    dynamic = dynamic.without(name)
                if new_rule:
                    dynamic = dynamic.with_rule(new_rule)
                    rows = rows_for(new_rule, state.inventory, state.lists)
                    added_rows += [(row, new_rule.deadline) for row in rows]
    origins = [rule.origin for rule in removed_by_name.values()]
    volatile, delta = state.volatile.changed(origins, added_rows)
    return replace(state, dynamic=dynamic, volatile=volatile), delta


def with_own_rules(state: State) -> State:
    """`state`, whose policy is another, with the rules that its quarantines need for that."""
    if not state.quarantines:
        return state
    return change_dynamic_rules(state, permits_changed=True)[0]


def rules_of_quarantine(
    quarantine: Quarantine, permits: Iterable[Permit]
) -> tuple[DynamicRule, ...]:
    """The dynamic rules that keep a quarantine cut off in spite of these permits."""
    return tuple(
        DynamicRule(
            quarantine.rule_name(part.name),
            part.filters,
            part.action,
            part.conditions,
            quarantine.deadline,
            quarantine.created,
            quarantine.by,
        )
        for part in parts_of_quarantine(quarantine.who, quarantine.permits, permits)
    )


def is_of_quarantine(state: State, rule_name: str) -> bool:
    """Whether a dynamic rule of that name belongs to a quarantine."""
    return any(quarantine.owns(rule_name) for quarantine in state.quarantines.values())


def _permits(state: State) -> Iterator[Permit]:
    """What `state` permits, without the dynamic rules of quarantines."""
    policy = state.compiled.policy.rules if state.compiled.policy else ()
    dynamic = (rule for rule in state.dynamic if not is_of_quarantine(state, rule.name))
    rules: Iterable[Rule | DynamicRule] = chain(policy, dynamic)
    for rule in rules:
        if rule.action is Action.PERMIT:
            yield from ((rule_filter, rule.conditions) for rule_filter in rule.filters)
