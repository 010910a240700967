"""Owns what a change that has to be confirmed has changed, once it is made.

It must not know when that is asked, nor what becomes of the change.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.engine.rules_before import differing, records_in
from ipsecd.engine.state import State
from ipsecd.sources.reading import Loaded
from ipsecd.sources.unconfirmed import Unconfirmed


def is_complete(change: Unconfirmed) -> bool:
    """Whether it was noted what the change changed, after it was made."""
    policies = change.policies
    return (policies is None or policies.complete) and (
        change.dynamic is None or change.put is not None
    )


def has_changed(change: Unconfirmed, state: State) -> bool:
    """Whether a complete change, after which `state` is there, has changed anything."""
    policies = change.policies
    if policies is None:
        return change.dynamic != change.put
    return bool(policies.texts) or policies.link != state.loaded.link


def is_unread(loaded: Loaded) -> bool:
    """Whether it may be that nothing of the store could be read."""
    return loaded.assigned_error is not None and not loaded.policies and not loaded.broken


def with_rules_put(change: Unconfirmed, state: State) -> Unconfirmed:
    """The change, which has put the dynamic rules of `state` in the place of those before."""
    dynamic, put = differing(change.dynamic or {}, records_in(state))
    return replace(change, dynamic=dynamic, put=put)
