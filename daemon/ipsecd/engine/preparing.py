"""Owns what is done in advance of a switch to another policy; must not know why it changes."""

from __future__ import annotations

from collections.abc import Callable

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import classifier_by_names
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.names import StateChange
from ipsecd.engine.sources import Choice
from ipsecd.engine.state import State
from ipsecd.progress import Tell


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
