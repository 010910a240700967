"""Owns the backend and the state that it was last given; must not know where a state comes from.

1. ``state`` is what the kernel holds, unless it says that this is not known.
2. Whatever fails here, the kernel holds what it held, and the state is the one before.
3. All of it runs in one thread, in short pieces, but for ``state``, ``check`` and ``run``: what
   comes from another thread is brought here by ``run``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TypeVar

from ipsecd.backend.base import Backend, Line, Observation
from ipsecd.backend.choice import withdraw_other
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import NO_CHANGE, Delta, Volatile
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import with_containers
from ipsecd.engine.quarantines import changed
from ipsecd.engine.state import Condition, Due, State
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.sources.dynamic import DynamicRules

RETRY_S = 5.0
"""Between two tries of what the kernel refused at start."""


T = TypeVar("T")


def at_once(work: Callable[[], T]) -> T:
    """Run `work` here and now, as is right where there is one thread."""
    return work()


class Enforcement:
    """What is in force, and what enforces it."""

    def __init__(
        self,
        make: Callable[[], Backend],
        make_other: Callable[[IpsecdError], Backend],
        bpffs: Path,
        clock: Callable[[], float],
    ) -> None:
        self.state = State()
        self.run: Line = at_once
        self._make = make
        self._make_other = make_other
        self._bpffs = bpffs
        self._clock = clock
        self._backend: Backend | None = None
        self._given: Volatile | None = None
        self._never = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._retry_at = inf
        self._repair_due = False

    @property
    def backend(self) -> Backend:
        """What enforces, made when it is first needed."""
        if self._backend is None:
            self._backend = self._make()
        return self._backend

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` for what the backend cannot enforce, if there is one yet."""
        if self._backend:
            self._backend.check(classifier)

    @property
    def holds_something(self) -> bool:
        """Whether the kernel holds a state, whoever put it there."""
        return self.backend.observe().digest is not None

    def observe(self) -> Observation:
        """What the kernel holds."""
        return self.run(lambda: Observation(None) if self.state.stopped else self.backend.observe())

    # -- beginning and end -----------------------------------------------------------------------

    def block_all(self, everything: Classifier) -> None:
        """Block `everything` until there is a state; raises ``IpsecdError``."""
        self._apply(everything, self.state.volatile)
        record(logging.INFO, "blocking-all", until="the assigned policy is in force")

    def hold(self, state: State) -> None:
        """Leave what the kernel holds as it is, and protect it."""
        self.backend.adopt()
        self.state = replace(state, condition=Condition.HELD)

    def begin(self, state: State, nothing: State) -> None:
        """Put the first state in force, with another backend if this one fails.

        If that fails too, the outcome is `nothing` of it, which says that it is tried again.
        """
        wanted = replace(state, condition=Condition.ENFORCING, due=None)
        try:
            self._apply(wanted.whole, wanted.volatile)
        except IpsecdError as error:
            failure = self._begin_otherwise(wanted, error)
            if failure is None:
                return
            self._retry_at = self._clock() + RETRY_S
            self.state = replace(
                nothing,
                condition=Condition.FAILED,
                failures=(failure, *wanted.failures),
                due=Due(wanted.good, wanted.source, wanted.failures),
            )
            return
        self.state = wanted
        withdraw_other(self.backend, self._bpffs)

    def _begin_otherwise(self, wanted: State, reason: IpsecdError) -> str | None:
        """Have another backend enforce what the first did not take; why not, None if it does."""
        try:
            with Attempt() as attempt:
                other = attempt.step(lambda: self._make_other(reason), lambda made: made.close())
                other.apply(wanted.whole, wanted.volatile)
        except (IpsecdError, OSError):
            return str(reason)
        failures = wanted.failures
        try:
            # What it holds from before would judge beside the new one.
            self.backend.give_way()
        except IpsecdError as error:
            failures = (str(error), *failures)
        self.backend.close()
        self._backend, self._given = other, wanted.volatile
        self.state = replace(wanted, failures=failures)
        return None

    def withdraw(self) -> None:
        """Withdraw everything; the dynamic rules are gone with it."""
        if self._backend:
            self._backend.remove()
            self._given = None
        self.state = replace(
            self.state,
            condition=Condition.STOPPED,
            dynamic=DynamicRules(),
            quarantines={},
            taken_over=0,
            volatile=Volatile(),
            due=None,
        )

    def close(self) -> None:
        """Let go of the kernel and leave it as it is."""
        if self._backend:
            self._backend.close()
            self._backend = None
        if self._never >= 0:
            os.close(self._never)
            self._never = -1

    # -- change ----------------------------------------------------------------------------------

    def prepare(self, whole: Classifier, tell: Tell = silent) -> None:
        """Do beforehand what takes long when `whole` is put in force; called in any thread."""
        state = self.state
        is_there = state.enforcing and whole.digest == state.whole.digest
        if self._backend and not state.stopped and not is_there:
            with Attempt() as attempt:
                attempt.step(lambda: None, lambda _: self.discard())
                tell(Progress(Phase.LOADING))
                self._backend.prepare(whole, self.run, tell)

    def discard(self) -> None:
        """Forget what was prepared; called in any thread."""
        if self._backend:
            self.run(self._backend.discard)

    def become(self, new: State, delta: Delta = NO_CHANGE, *, settle: bool = False) -> None:
        """Put `new` in force in the place of what is; raises ``IpsecdError``, and nothing changed.

        `delta` is how the entries of dynamic rules change; quarantines are held against another
        policy here. With `settle` the kernel is given all of it as well where something enforces
        less well than was asked for.
        """
        old = self.state
        if new.quarantines and new.good is not old.good:
            new, _ = changed(new, permits_changed=True)
            delta = old.volatile.difference(new.volatile)
        if new.enforcing and (
            not old.enforcing
            or new.good.key != old.good.key
            or new.whole.digest != old.whole.digest
            or (settle and self.backend.failures)
        ):
            if old.enforcing and not delta:
                self._apply(new.whole, new.volatile)
            else:
                self._replace(old, new)
            if old.held:
                withdraw_other(self.backend, self._bpffs)
        elif delta:
            self._change(delta, new.volatile)
        self.state = new

    def _replace(self, old: State, new: State) -> None:
        """Put a policy in force together with other dynamic rules.

        A backend that holds some takes them apart from the policy. So those that come do so before
        the policy does, and those that go only after: in between no rule is missing.
        """
        given = self._given
        if given is None:
            self._apply(new.whole, new.volatile)
            return
        delta = given.difference(new.volatile)
        kept = {(one.table, one.key) for one in delta.added}
        gone = tuple(one for one in delta.removed if (one.table, one.key) not in kept)
        come = Delta(tuple(one for one in delta.removed if one not in gone), delta.added)
        both = new.volatile.with_entries(gone)
        with Attempt() as attempt:
            attempt.step(
                lambda: self._change(come, both), lambda _: self._change(come.reversed(), given)
            )
            attempt.step(
                lambda: self._apply(new.whole, both),
                lambda _: self._apply(old.whole, both) if old.enforcing else None,
            )
            self._change(Delta(removed=gone), new.volatile)

    def _apply(self, whole: Classifier, volatile: Volatile) -> None:
        self.backend.apply(whole, volatile)
        self._given = volatile

    def _change(self, delta: Delta, volatile: Volatile) -> None:
        if delta:
            self.backend.change(delta, volatile)
            self._given = volatile

    def note(self, new: State) -> None:
        """Make `new` the state, which has nothing else in force."""
        self.state = new

    # -- watching --------------------------------------------------------------------------------

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed the kernel's state."""
        descriptor = self._backend.watch_fd() if self._backend else -1
        return descriptor if descriptor >= 0 else self._never

    def watch(self) -> None:
        """Put right what somebody else changed, and say so.

        What could not be put right is tried again at the next call.
        """
        if self._backend is None:
            return
        self._repair_due = self._backend.changed() or self._repair_due
        if not self.state.enforcing or not self._repair_due:
            return
        drift = self._backend.observe().drift
        if drift:
            self._backend.apply(self.state.whole, self.state.volatile)
            record(logging.WARNING, "foreign-change-undone", drift="; ".join(drift))
        self._repair_due = False

    def follow_senders(self) -> None:
        """Enforce anew if a service that a filter names has been started or stopped."""
        if self._backend and self.state.enforcing and self._backend.is_stale():
            self._backend.apply(self.state.whole, self.state.volatile)

    def try_again(self) -> bool:
        """Enforce what the kernel refused at start, if it is time and it takes it now."""
        state = self.state
        due = state.due
        if due is None or self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + RETRY_S
        whole = with_containers(due.good, state.inventory)
        new = replace(state.with_policy(due.source, due.good, whole), failures=due.failures)
        try:
            self.become(new)
        except IpsecdError:
            return False
        policy = due.good.policy
        record(logging.INFO, "enforcing", policy=policy.name if policy else None)
        return True
