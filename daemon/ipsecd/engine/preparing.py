"""Owns the switch to another policy, and what is done in advance; must not know why it changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Names, classifier_by_names
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.names import StateChange
from ipsecd.engine.sources import Choice
from ipsecd.engine.state import State
from ipsecd.progress import Tell
from ipsecd.sources.kept import KeptFiles


def prepare(
    enforcement: Enforcement,
    attempt: Attempt,
    choice: Choice,
    next_state: Callable[[State], StateChange],
    tell: Tell,
) -> Callable[[], StateChange]:
    """Do in advance what takes long of putting the choice in force.

    Returns a function that makes the state to switch to. `next_state` makes all of it but the
    policy.
    """
    before = enforcement.state
    classifier = classifier_by_names(choice.compiled, before.inventory, before.lists)

    def make_state() -> StateChange:
        # Dynamic rules and containers may have changed since the choice was made.
        now = enforcement.state
        current = classifier
        if now.inventory is not before.inventory or now.lists is not before.lists:
            current = classifier_by_names(choice.compiled, now.inventory, now.lists)
        new, delta, rules = next_state(now)
        return new.with_policy(choice.source, choice.compiled, current), delta, rules

    attempt.step(
        lambda: enforcement.prepare(
            classifier.with_lists(before.lists, before.volatile.tables), tell
        ),
        lambda _: enforcement.discard(),
    )
    return make_state


def switch(
    enforcement: Enforcement,
    kept_files: KeptFiles,
    attempt: Attempt,
    make_state: Callable[[], StateChange],
    names: Names,
) -> bool:
    """Save `names` and put the new state in force, as the last steps of an attempt.

    Returns whether dynamic rules changed with it.
    """
    before = enforcement.state.names
    attempt.step(
        partial(kept_files.save_names, names, before),
        lambda _: kept_files.save_names(before, names),
    )

    def put_in_force() -> bool:
        now = enforcement.state
        new, delta, rules = make_state()
        enforcement.put_in_force(new, delta, retry_failures=True)
        for rule in rules:
            kept_files.dynamic.added(rule)
        for quarantine in new.quarantines.values():
            if quarantine != now.quarantines.get(quarantine.name):
                kept_files.dynamic.imposed(quarantine)
        return bool(delta)

    return enforcement.run(put_in_force)
