"""Owns the backend and the state that it was last given; must not know where a state comes from.

1. ``state`` is what the kernel holds, unless it says that this is not known.
2. Whatever fails here, the kernel holds what it held, and the state is the one before.
3. All of it runs in one thread, in short pieces. Other threads may only read ``state``, call
   ``check``, ``prepare`` and ``discard``, and have ``run`` carry out work in this one.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TypeVar

from ipsecd.backend.base import Backend, Line, Observation
from ipsecd.backend.choice import (
    exchange_backend,
    load_programs,
    make_ready,
    put_off_programs,
    withdraw_left_programs,
)
from ipsecd.backend.lines import at_once
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import NO_CHANGE, NOTHING_DYNAMIC, Delta, Volatile
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import classifier_by_names
from ipsecd.engine.guard import must_spare
from ipsecd.engine.heard_state import HeardState, tell_of
from ipsecd.engine.measured import Measured
from ipsecd.engine.noting import note_change
from ipsecd.engine.quarantines import with_own_rules
from ipsecd.engine.state import Condition, PendingPolicy, State
from ipsecd.errors import IpsecdError, Refused
from ipsecd.log import record
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.sources.dynamic import DynamicRules

RETRY_S = 5.0
"""The time between two tries of what the kernel refused at start."""


T = TypeVar("T")


class Enforcement:
    """What is in force, and what enforces it."""

    state = HeardState()

    def __init__(
        self,
        make: Callable[[], Backend],
        make_other: Callable[[IpsecdError], Backend],
        bpffs: Path,
        clock: Callable[[], float],
    ) -> None:
        self.listeners: list[Callable[[State], None]] = []
        self.state, self.measured = State(), Measured()
        self.run: Line = at_once
        self._make = make
        self._make_other = make_other
        self._bpffs, self._clock = bpffs, clock
        self._backend: Backend | None = None
        self._news, self._heard = select.epoll(), -1
        self._retry_at, self._repair_due = inf, False

    @property
    def backend(self) -> Backend:
        """The backend, which is made when it is first needed."""
        if self._backend is None:
            self._backend = self._make()
            self._listen()
        return self._backend

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` if the backend, once there is one, cannot enforce `classifier`."""
        if self._backend:
            self._backend.check(classifier)

    @property
    def holds_something(self) -> bool:
        """Whether the kernel holds a state, whichever process put it there."""
        return self.backend.observe().digest is not None

    def observe(self) -> Observation:
        """What the kernel holds."""
        return self.run(lambda: Observation(None) if self.state.stopped else self.backend.observe())

    # -- beginning and end -----------------------------------------------------------------------

    def block_all(self, block: Classifier) -> None:
        """Enforce `block` until there is a state; raises ``IpsecdError``."""
        self._apply(block, self.state.volatile)
        record(logging.INFO, "blocking-all", until="the assigned policy is in force")

    def hold(self, state: State) -> None:
        """Leave what the kernel holds as it is, and protect it."""
        self.backend.adopt()
        self.state = replace(state, condition=Condition.HELD)

    def begin(self, state: State, fallback: State) -> None:
        """Put the first state in force, with another backend if this one fails.

        What takes long of programs beside nftables is left to ``load_programs``. If the other
        backend fails too, the state is `fallback`, and `state` is tried again later.
        """
        wanted = replace(state, condition=Condition.ENFORCING, pending=None).with_used_lists()
        must_spare(self.state, wanted)
        try:
            self._apply(wanted.classifier, wanted.volatile, first=True)
        except IpsecdError as error:
            failure = self._begin_with_another_backend(wanted, error)
            if failure is None:
                return
            self._retry_at = self._clock() + RETRY_S
            self.state = replace(
                fallback,
                condition=Condition.FAILED,
                failures=(failure, *wanted.failures),
                pending=PendingPolicy(wanted.compiled, wanted.source, wanted.failures),
            )
            return
        self.state = wanted
        withdraw_left_programs(self.backend, self._bpffs)

    def _begin_with_another_backend(self, wanted: State, reason: IpsecdError) -> str | None:
        """Have another backend enforce what the first did not take.

        Returns None if it does, otherwise why nothing does.
        """
        try:
            with Attempt() as attempt:
                another = attempt.step(
                    lambda: self._make_other(reason), lambda backend: backend.close()
                )
                another.apply(wanted.classifier, wanted.volatile)
        except (IpsecdError, OSError):
            return str(reason)
        failures = wanted.failures
        try:
            # The first backend may hold an older state, which would decide about packets as well.
            self.backend.give_way()
        except IpsecdError as error:
            failures = (str(error), *failures)
        self._listen(to_nobody=True)
        self.backend.close()
        self._backend = another
        self._listen()
        self.state = replace(wanted, failures=failures)
        return None

    def load_programs(self) -> None:
        """Put programs in force that were left for later; for any thread."""
        backend = self.run(lambda: self._backend)
        if backend and load_programs(backend, self.run):
            record(logging.INFO, "programs-in-force", backend=backend.name)

    def withdraw(self) -> None:
        """Withdraw everything, also the dynamic rules."""
        if self._backend:
            self._backend.remove()
        self.state = replace(
            self.state,
            condition=Condition.STOPPED,
            dynamic=DynamicRules(),
            quarantines={},
            taken_over=0,
            unprotecting=(),
            volatile=Volatile(),
            pending=None,
        )

    def close(self) -> None:
        """Let go of the kernel and leave it as it is."""
        if self._backend:
            self._listen(to_nobody=True)
            self._backend.close()
            self._backend = None
        self._news.close()

    # -- change ----------------------------------------------------------------------------------

    def prepare(
        self, classifier: Classifier, tell: Tell = silent, *, dynamic: Volatile = NOTHING_DYNAMIC
    ) -> None:
        """Do in advance what takes long when `classifier` is put in force; for any thread.

        So it does for the `dynamic` rules that change in the same moment, where there are any.
        """
        state = self.state
        is_in_force = state.enforcing and classifier.digest == state.classifier.digest
        if self._backend and not state.stopped and (dynamic.tables or not is_in_force):
            with Attempt() as attempt:
                attempt.step(lambda: None, lambda _: self.discard())
                tell(Progress(Phase.LOADING))
                self._backend.prepare(classifier, self.run, tell, dynamic=dynamic)

    def discard(self) -> None:
        """Forget what was prepared; for any thread."""
        if self._backend:
            self.run(self._backend.discard)

    def put_in_force(
        self, new: State, delta: Delta = NO_CHANGE, *, retry_failures: bool = False
    ) -> None:
        """Put `new` in force; raises ``IpsecdError``, and then nothing has changed.

        `delta` is how the entries of dynamic rules change. If the policy changes, the rules of
        quarantines are made anew here. With `retry_failures` the kernel is given the whole state
        also where nothing changed but the backend has failures, which may be over now.
        """
        old = self.state
        if new.quarantines and new.compiled is not old.compiled:
            new = with_own_rules(new)
            delta = old.volatile.difference(new.volatile)
        new = new.with_used_lists()
        must_spare(old, new)
        note_change(old, new)
        if new.enforcing and (
            replaces_rules(old, new) or (retry_failures and self.backend.failures)
        ):
            self._apply(new.classifier, new.volatile)
            if old.held:
                withdraw_left_programs(self.backend, self._bpffs)
        elif delta:
            self.backend.change(delta, new.volatile)
        self.state = new
        self.measured.change()

    def make_ready(self, name: str) -> Programs | None:
        """What ``exchange_backend`` would take long for; for any thread. Raises ``IpsecdError``."""
        state, backend = self.run(lambda: (self.state, self.backend))
        if backend.name == name or not state.enforcing:
            return None
        held = (state.classifier, state.volatile)
        return make_ready(backend, name, self._bpffs, held, self.run)

    def exchange_backend(self, name: str, ready: Programs | None = None) -> str:
        """Have the backend called `name` enforce what is in force; the name of the one before.

        Raises ``IpsecdError``, and then nothing has changed. What is not `ready` takes as long as
        programs take to be loaded; what is in force is enforced all the while.
        """
        state, before = self.state, self.backend
        if before.name == name:
            return name
        if not state.enforcing and not state.stopped:
            raise Refused(
                "what should be in force is not, so another backend would not know what to enforce",
                "ipsecctl status says why; mend that first",
            )
        old_name = before.name
        held = (state.classifier, state.volatile) if state.enforcing else None
        another = exchange_backend(before, name, self._bpffs, held, ready)
        self._listen(to_nobody=True)
        self._backend = another
        self._listen()
        tell_of(self, state)
        record(logging.INFO, "backend-exchanged", backend=name, before=old_name)
        return old_name

    def _apply(self, classifier: Classifier, volatile: Volatile, *, first: bool = False) -> None:
        # What a policy is by itself was checked when it was compiled; what its names stand for was
        # not known then.
        self.backend.check(classifier)
        if first:
            put_off_programs(self.backend)
        with self.measured.applying():
            self.backend.apply(classifier, volatile)

    def record_state(self, new: State) -> None:
        """Record `new` as the state: the same is in force in it, so the kernel is not told."""
        self.state = new

    # -- watching --------------------------------------------------------------------------------

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed the kernel's state.

        It stays the same when another backend takes over.
        """
        self._listen()
        return self._news.fileno()

    def _listen(self, *, to_nobody: bool = False) -> None:
        """Have the news of the backend of now make the descriptor readable, and no other's."""
        descriptor = self._backend.watch_fd() if self._backend and not to_nobody else -1
        if descriptor == self._heard:
            return
        if self._heard >= 0:
            with suppress(OSError):
                self._news.unregister(self._heard)
        self._heard = descriptor
        if self._heard >= 0:
            self._news.register(self._heard, select.EPOLLIN)

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
            self._backend.apply(self.state.classifier, self.state.volatile)
            self.measured.repair()
            record(logging.WARNING, "foreign-change-undone", drift="; ".join(drift))
        self._repair_due = False

    def follow_senders(self) -> None:
        """Enforce anew if a service that a filter names has been started or stopped."""
        if self._backend and self.state.enforcing and self._backend.is_stale():
            self._backend.apply(self.state.classifier, self.state.volatile)

    def try_again(self) -> bool:
        """Enforce what the kernel refused at start, if it is time. Whether that is in force now."""
        state = self.state
        pending = state.pending
        if pending is None or self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + RETRY_S
        try:
            classifier = classifier_by_names(pending.compiled, state.inventory, state.lists)
            new = state.with_policy(pending.source, pending.compiled, classifier)
            self.put_in_force(replace(new, failures=pending.failures))
        except IpsecdError:
            return False
        policy = pending.compiled.policy
        record(logging.INFO, "enforcing", policy=policy.name if policy else None)
        return True


def replaces_rules(old: State, new: State) -> bool:
    """Whether `new` gets in force as a whole, and not by a change of the dynamic rules of `old`."""
    return (
        not old.enforcing
        or new.compiled.key != old.compiled.key
        or new.classifier.digest != old.classifier.digest
    )
