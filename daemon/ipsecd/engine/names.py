"""Owns what becomes of dynamic rules when DNS names are looked up again; must not know how.

Pure: it makes a state of a state.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.compiler.volatile import NO_CHANGE, Delta
from ipsecd.engine.compiling import Names, rows_for
from ipsecd.engine.quarantines import changed
from ipsecd.engine.state import State
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import names_in, with_addresses

Renewed = tuple[State, Delta, tuple[DynamicRule, ...]]
"""A state, what that does to the entries of dynamic rules, and the rules that changed."""


def renewed(state: State, names: Names, looked_up: float) -> Renewed:
    """The state whose dynamic rules and quarantines have the addresses of `names`.

    `looked_up` is when these were, in seconds since the epoch. Returns also what that does to the
    entries, and the rules that name any, but for those of quarantines.
    """
    if not names:
        return state, NO_CHANGE, ()
    quarantines = {
        name: replace(one, permits=tuple(with_addresses(permit, names) for permit in one.permits))
        for name, one in state.quarantines.items()
    }
    own = {name for one in quarantines.values() for name in one.rule_names}
    rules = tuple(
        replace(
            rule,
            filters=tuple(with_addresses(one, names) for one in rule.filters),
            looked_up=looked_up,
        )
        for rule in state.dynamic
        if rule.name not in own and names_in(rule.filters) & names.keys()
    )
    new, delta = changed(
        replace(state, quarantines=quarantines),
        come=[(rule, rows_for(rule, state.inventory)) for rule in rules],
        permits_changed=quarantines != state.quarantines,
    )
    return new, delta, rules
