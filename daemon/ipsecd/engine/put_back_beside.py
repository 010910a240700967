"""Owns which dynamic rules are put back in the moment of policies; must not know the policies."""

from __future__ import annotations

from ipsecd.engine.dynamic import DynamicRuleChanges
from ipsecd.engine.rules_before import rules_to_put_back
from ipsecd.engine.rules_beside import RulesBeside
from ipsecd.errors import IpsecdError
from ipsecd.sources.unconfirmed import Unconfirmed


def rules_beside(changes: DynamicRuleChanges, change: Unconfirmed, boot: str) -> RulesBeside | None:
    """The rules that `change` has changed with policies, as they were before.

    None if there are none, or if they cannot be put back so: whatever is left to be put back then
    follows the policies. It is called in the kernel's line.
    """
    before, put, state = change.dynamic, change.put, changes.enforcement.state
    if before is None or put is None or change.boot != boot or not state.enforcing:
        return None
    rules, names = rules_to_put_back(changes, before, put)
    beside = RulesBeside(changes, rules, names)
    try:
        beside.change(state)
    except IpsecdError:
        return None
    return beside if names else None
