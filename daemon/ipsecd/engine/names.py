"""Owns what changes when DNS names are looked up again; must not know how that is done.

It is pure: it makes a new state from a state.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.compiler.volatile import NO_CHANGE, Delta
from ipsecd.engine.compiling import Names, rows_for
from ipsecd.engine.protection import Protection
from ipsecd.engine.quarantines import change_dynamic_rules, is_of_quarantine
from ipsecd.engine.state import State
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import dns_names_in, with_addresses

StateChange = tuple[State, Delta, tuple[DynamicRule, ...]]
"""A new state, how it changes the entries of dynamic rules, and the rules that changed."""


def found(asked: Names) -> Names:
    """Those names that could be looked up; one that could not has no addresses."""
    return {name: addresses for name, addresses in asked.items() if addresses}


def with_answers(state: State, asked: Names, known: Names, looked_up: float) -> State:
    """The state that knows what came of asking, and by `known` all addresses.

    A name that could not be looked up keeps those that it had.
    """
    answered = found(asked)
    return replace(
        state,
        names=known,
        looked_up={**state.looked_up, **dict.fromkeys(answered, looked_up)},
        unresolved=(state.unresolved | asked.keys()) - answered.keys(),
    )


def with_new_addresses(
    state: State, names: Names, looked_up: float, protection: Protection
) -> StateChange:
    """The state whose dynamic rules and quarantines have the addresses of `names`.

    `looked_up` is when the names were looked up, in seconds since the epoch. The rules that changed
    are those that use any of the names, without those of quarantines. A block does not take an
    address that is protected.
    """
    if not names:
        return state, NO_CHANGE, ()
    quarantines = {
        name: replace(
            quarantine,
            permits=tuple(with_addresses(permit, names) for permit in quarantine.permits),
        )
        for name, quarantine in state.quarantines.items()
    }
    rules = tuple(
        protection.spared(
            replace(
                rule,
                filters=tuple(with_addresses(rule_filter, names) for rule_filter in rule.filters),
                looked_up=looked_up,
            ),
            rule,
        )
        for rule in state.dynamic
        if not is_of_quarantine(state, rule.name) and dns_names_in(rule.filters) & names.keys()
    )
    new, delta = change_dynamic_rules(
        replace(state, quarantines=quarantines),
        added=[(rule, rows_for(rule, state.inventory)) for rule in rules],
        permits_changed=quarantines != state.quarantines,
    )
    return new, delta, rules
