"""Owns how what the domain says is taken: kept, and in force; must not know how it was fetched."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Names
from ipsecd.engine.lists import changes_by_domain
from ipsecd.engine.names import found, with_answers
from ipsecd.engine.policies import Policies
from ipsecd.engine.sources import why_not_in_force
from ipsecd.engine.state import State
from ipsecd.language.expectations import must_be_met
from ipsecd.progress import silent
from ipsecd.sources.domain import Taken


def take(policies: Policies, taken: Taken, names: Names) -> bool:
    """Keep what was taken from the domain, and enforce by it; whether that changed anything.

    The policy and the lists that it carries are kept as one, and in force as one.

    A name among `names` that has no addresses could not be looked up, as for ``reload``. Raises
    why it cannot be in force; then all is as it was, on disk too.
    """
    now = policies.enforcement.state
    looked_up = time.time()
    answered = found(names)
    known_names = {**now.names, **answered}
    if taken.stored:
        # What is in force was judged when it came, and most looks bring nothing else.
        if now.compiled.document != taken.stored.text:
            must_be_met(taken.stored.policy)
        policies.kept_files.reader.remember(taken.stored.text, taken.stored.policy)
    choice = policies.choose(now.loaded, known_names, silent, taken)
    lists = changes_by_domain(now.lists, taken)
    is_same = choice.source is now.source and choice.compiled.key == now.compiled.key
    if is_same and not lists and now.enforcing:
        trust(policies, taken)
        return False
    policies.kept_files.check(choice.compiled, known_names)

    def next_state(state: State) -> State:
        return replace(
            with_answers(state, names, known_names, looked_up),
            domain=taken,
            failures=why_not_in_force(choice, state.loaded, state.refused),
        )

    with Attempt() as attempt:
        make_state = policies.switching.prepare(
            attempt,
            choice,
            lambda state: policies.switching.with_addresses(next_state(state), answered, looked_up),
            silent,
            lists,
        )
        before = now.domain or Taken()
        attempt.step(
            partial(policies.kept_files.save_domain, taken, before),
            lambda _: policies.kept_files.save_domain(before, taken),
        )
        policies.switching.switch(attempt, make_state, known_names)
    policies.kept_files.tidy_domain(taken)
    policies.keep_last_good()
    return True


def trust(policies: Policies, taken: Taken) -> None:
    """Keep other metadata of the domain, where the policy in force stays the same."""
    policies.kept_files.save_domain(taken, policies.enforcement.state.domain or Taken())
    policies.kept_files.tidy_domain(taken)
    policies.switching.note(lambda state: replace(state, domain=taken))
