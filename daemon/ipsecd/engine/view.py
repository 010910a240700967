"""Owns what is asked about a state; must not change one."""

from __future__ import annotations

from dataclasses import replace

from ipsecd.engine.state import State
from ipsecd.model.inventory import has_selectors
from ipsecd.model.values import Action, Filter, InForce, Origin, Process, Store, filters_of


def filters_in_force(state: State) -> tuple[InForce, ...]:
    """Every filter in force: those of the policy, then the dynamic ones."""
    if state.stopped:
        return ()
    policy = filters_of(state.good.policy, Store.STATIC) if state.good.policy else ()
    all_filters = (*policy, *(one for rule in state.dynamic for one in rule.in_force))
    return tuple(
        replace(one, filter=state.inventory.known(one.filter)) if has_selectors(one.filter) else one
        for one in all_filters
    )


def rules_in_force(state: State) -> dict[Origin, Action]:
    """Every rule in force with its action; nothing of a policy is read for that."""
    if state.stopped:
        return {}
    policy = state.good.policy
    rules = {}
    if policy:
        for name, action in policy.facts.actions.items():
            rules[Origin(Store.STATIC.value, policy.name, name)] = action
    return rules | {rule.origin: rule.action for rule in state.dynamic}


def policy_filters_by_name(state: State) -> tuple[Filter, ...]:
    """The filters of the policy in force that name containers or local processes."""
    rules = state.good.policy.facts.by_name if state.good.policy else ()
    return tuple(one for rule in rules for one in rule.filters)


def dynamic_filters_by_name(state: State) -> tuple[Filter, ...]:
    """The filters of dynamic rules that name containers or local processes."""
    rules = dict(state.dynamic.selecting)
    if any(table.id.process for table in state.volatile.tables):
        rules |= {rule.name: rule for rule in state.dynamic}
    return tuple(one for rule in rules.values() for one in rule.filters if _goes_by_name(one))


def _goes_by_name(one: Filter) -> bool:
    return has_selectors(one) or isinstance(one.source.address, Process)
