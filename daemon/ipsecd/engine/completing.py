"""Owns what a change that has to be confirmed has changed, and whether it may begin.

It must not know when that is asked, nor what becomes of the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ipsecd.engine.caller import Caller
from ipsecd.engine.rules_before import (
    NotPutBack,
    are_others,
    differing,
    in_words,
    records_in,
)
from ipsecd.engine.state import Condition, State
from ipsecd.errors import Refused
from ipsecd.sources.lists_put_back import ListsPutBack
from ipsecd.sources.reading import Loaded
from ipsecd.sources.unconfirmed import Unconfirmed


def begun(boot: str, deadline: float, method: str, by: str, caller: Caller) -> Unconfirmed:
    """A change that begins, of which it is not said yet what it changes."""
    options = caller.options
    return Unconfirmed(
        boot,
        deadline,
        options.login,
        caller.uid,
        caller.user,
        by,
        options.terminal,
        method,
        options.message,
    )


def is_complete(change: Unconfirmed) -> bool:
    """Whether it was noted what the change changed, after it was made."""
    policies = change.policies
    return (policies is None or policies.complete) and (
        change.dynamic is None or change.put is not None
    )


def has_changed(change: Unconfirmed, state: State, lists: ListsPutBack) -> bool:
    """Whether a complete change, after which `state` is there, has changed anything."""
    policies, dynamic, put = change.policies, change.dynamic, change.put
    if policies is not None and (policies.texts or policies.link != state.loaded.link):
        return True
    if change.lists and not lists.are_there(change.lists):
        return True
    return dynamic is not None and put is not None and are_others(dynamic, put, state)


def is_unread(loaded: Loaded) -> bool:
    """Whether it may be that nothing of the store could be read."""
    return loaded.assigned_error is not None and not loaded.policies and not loaded.broken


def with_files_narrowed(change: Unconfirmed, after: Loaded) -> Unconfirmed:
    """The change with only those files of policies that are others in the store `after` it."""
    policies = change.policies
    return replace(change, policies=policies.narrowed(after)) if policies else change


def with_rules_put(change: Unconfirmed, state: State) -> Unconfirmed:
    """The change, which has put the dynamic rules of `state` in the place of those before."""
    dynamic, put = differing(change.dynamic or {}, records_in(state))
    return replace(change, dynamic=dynamic, put=put)


def must_be_what_it_should(state: State) -> None:
    """Raise ``Refused`` if what is in force is not what should be: it could not be put back."""
    loaded = state.loaded
    reasons = [*state.failures, *(str(file.error) for file in loaded.broken)]
    if state.enforcing and not loaded.assigned_error and not reasons:
        return
    reason = "enforcement is stopped" if state.stopped else "not all that should be is in force"
    if reasons:
        reason = f"{reason}: {reasons[0].splitlines()[0]}"
    raise Refused(
        f"a change that has to be confirmed needs a state to go back to, and {reason}",
        "mend what ipsecctl status shows, or leave out --confirm",
    )


def must_be_another_login(change: Unconfirmed, caller: Caller) -> None:
    """Raise ``Refused`` if who confirms the change does so in the login that made it."""
    if change.login and change.login == caller.options.login and not caller.options.force:
        raise Refused(
            "the change was made in this login, which does not show that one can still log in",
            "log in anew and run ipsecctl confirm there; --force keeps the change all the same",
        )


def in_a_sentence(
    change: Unconfirmed, why: str, missing: Sequence[NotPutBack], condition: Condition
) -> str:
    """That a change was put back, without the `missing` rules, while the state is so."""
    sentence = f"the change by {change.by} was put back: {why}"
    if missing:
        sentence += f"; not put back: {in_words(missing)}"
    if condition is Condition.FAILED and change.policies is None:
        sentence += "; it is in force once the kernel takes what it refused at the start"
    return sentence
