"""Owns how dynamic rules change while quarantines hold: theirs are made anew of what is permitted.

Pure: it makes a state of a state. Whatever changes what is permitted, a policy or dynamic rules,
the next state goes through here before the kernel hears of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from ipsecd.compiler.tables import Row
from ipsecd.compiler.volatile import Delta
from ipsecd.engine.compiling import rows_for
from ipsecd.engine.state import State
from ipsecd.model.quarantine import Permit, Quarantine, parts
from ipsecd.model.values import Action, Rule
from ipsecd.sources.dynamic import DynamicRule


def changed(
    state: State,
    gone: Iterable[DynamicRule] = (),
    come: Sequence[tuple[DynamicRule, Sequence[Row]]] = (),
    *,
    permits_changed: bool = False,
) -> tuple[State, Delta]:
    """The state without some dynamic rules and with others, and what that does to the entries.

    A rule that comes, with its rows, takes the place of the one of its name. `permits_changed` says
    that the permits of the policy or the quarantines are others than those of the dynamic rules
    that `state` has.
    """
    removed = {rule.name: rule for rule in gone}
    for rule, _ in come:
        if old := state.dynamic.get(rule.name):
            removed[rule.name] = old
    dynamic = state.dynamic
    for name in removed:
        dynamic = dynamic.without(name)
    for rule, _ in come:
        dynamic = dynamic.with_rule(rule)
    added = [(row, rule.deadline) for rule, rows in come for row in rows]
    touched = (*removed.values(), *(rule for rule, _ in come))
    permits_changed = permits_changed or any(rule.action is Action.PERMIT for rule in touched)
    if state.quarantines and permits_changed:
        names = rule_names(state)
        permits = [*_permits(replace(state, dynamic=dynamic), names)]
        for quarantine in state.quarantines.values():
            wanted = {rule.name: rule for rule in rules_of(quarantine, permits)}
            for name in quarantine.rule_names:
                had, wants = dynamic.get(name), wanted.get(name)
                if had == wants:
                    continue
                if had:
                    removed[name] = had
                    dynamic = dynamic.without(name)
                if wants:
                    dynamic = dynamic.with_rule(wants)
                    added += [(row, wants.deadline) for row in rows_for(wants, state.inventory)]
    volatile, delta = state.volatile.changed([rule.origin for rule in removed.values()], added)
    return replace(state, dynamic=dynamic, volatile=volatile), delta


def rules_of(quarantine: Quarantine, permits: Iterable[Permit]) -> tuple[DynamicRule, ...]:
    """The dynamic rules that hold a quarantine against these permits."""
    return tuple(
        DynamicRule(
            part.pattern.format(quarantine.name),
            part.filters,
            part.action,
            part.interface_type,
            quarantine.deadline,
            quarantine.created,
            quarantine.by,
        )
        for part in parts(quarantine.who, quarantine.permits, permits)
    )


def rule_names(state: State) -> frozenset[str]:
    """The names of dynamic rules that belong to quarantines."""
    return frozenset(name for one in state.quarantines.values() for name in one.rule_names)


def _permits(state: State, not_counted: frozenset[str]) -> Iterator[Permit]:
    """What is permitted in `state`, but for the rules of these names."""
    policy = state.good.policy.rules if state.good.policy else ()
    dynamic = (rule for rule in state.dynamic if rule.name not in not_counted)
    rules: Iterable[Rule | DynamicRule] = chain(policy, dynamic)
    for rule in rules:
        if rule.action is Action.PERMIT:
            yield from ((one, rule.interface_type) for one in rule.filters)
