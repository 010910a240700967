"""Owns changes that have to be confirmed, and putting back what nobody confirms.

It must not know how a change is made, nor who is told of it. Invariants:

1. What to put back is on disk before a change is made, and until it is confirmed, or all is as it
   was, on disk too. So an end of the daemon or of the host in between confirms nothing.
2. What is put back is what one change changed, and nothing else: what changed by itself meanwhile,
   or by somebody else, stays. Policies change only once at a time, so these are as they were.
3. The clock of the deadline does not stand still while the host sleeps, and nobody sets it.
   A reboot ends the time, because nobody can have confirmed anything across it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from math import inf
from pathlib import Path
from threading import RLock

from ipsecd.engine.caller import Caller
from ipsecd.engine.completing import has_changed, is_complete, is_unread, with_rules_put
from ipsecd.engine.dynamic import DynamicRuleChanges
from ipsecd.engine.policies import Policies
from ipsecd.engine.rules_before import (
    NotPutBack,
    in_words,
    put_rules_back,
    records_changed,
    records_in,
)
from ipsecd.engine.state import Condition, State
from ipsecd.errors import IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.log import record
from ipsecd.sources.dynamic_file import name_of_boot
from ipsecd.sources.files import Disk
from ipsecd.sources.putting_back import put_back
from ipsecd.sources.reading import Loaded
from ipsecd.sources.unconfirmed import PoliciesBefore, Unconfirmed, UnconfirmedFile

RETRY_S = 5.0
"""The time between two tries to put back what could not be."""


class Part(Enum):
    """What a change changes that can be put back."""

    POLICIES = "policies"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class PutBack:
    """A change that was put back, and why, in words."""

    change: Unconfirmed
    sentence: str


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot of this host: its name, and the clock that began with it, in seconds."""

    name: str
    clock: Callable[[], float]

    @classmethod
    def of_now(cls) -> Boot:
        """This boot, with the clock that also counts the time in which the host sleeps."""
        return cls(name_of_boot(os.environ), partial(time.clock_gettime, time.CLOCK_BOOTTIME))


class Confirmation:
    """The change that waits to be confirmed, if there is one."""

    def __init__(
        self,
        directory: Path,
        disk: Disk | None,
        policies: Policies,
        dynamic: DynamicRuleChanges,
        boot: Boot | None,
    ) -> None:
        """`directory` is where the daemon keeps its own files."""
        boot = boot or Boot.of_now()
        self.change: Unconfirmed | None = None
        self.problem = ""
        """What keeps a change from being put back, or what is wrong with the file."""
        self.last: PutBack | None = None
        self._not_put_back: tuple[NotPutBack, ...] = ()
        self._file = UnconfirmedFile(directory, disk)
        self._store = policies.store
        self._policies = policies
        self._dynamic = dynamic
        self._enforcement = policies.enforcement
        self._disk = disk or Disk()
        self._boot, self._clock = boot.name, boot.clock
        self._retry_at = -inf
        self._is_made = True
        self._state_before = State()
        """The state before a change that is being made."""
        self._is_loaded = False
        self._is_left_incomplete = False
        """Whether an earlier process has not noted what its change changed."""
        self._is_left_over = False
        """Whether the file may be there although no change waits."""
        self._lock = RLock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        rules, now = self._enforcement.state.dynamic, self._dynamic.clock()
        missing = [each for each in self._not_put_back if each.counts(rules, now)]
        told = (
            f"of an unconfirmed change that was put back not all could be: {in_words(missing)}\n"
            "  hint: see what is in force with: ipsecctl show dynamic; make again what is missing"
        )
        return (*([self.problem] if self.problem else []), *([told] if missing else []))

    # -- at start --------------------------------------------------------------------------------

    def load(self) -> None:
        """Read what an earlier process has left; the first call counts."""
        if self._is_loaded:
            return
        self._is_loaded = True
        try:
            self.change = self._file.load()
            self._is_left_incomplete = self.change is not None and not is_complete(self.change)
        except StoreFailed as error:
            self.problem = f"a change may be unconfirmed: {error.message}\n  hint: {error.hint}"
            record(logging.ERROR, "unconfirmed-not-known", reason=error.message)

    def content(self, loaded: Loaded) -> Loaded:
        """What counts as the content of the store at start, which holds `loaded`.

        That is what was before a change whose time is over. Of a change that an earlier process
        has not completed, only what differs in `loaded` counts as changed.
        """
        change = self.change
        if self._is_left_incomplete and change and change.policies and not is_unread(loaded):
            change = replace(change, policies=change.policies.narrowed(loaded))
            self.change = change
        if change is None or change.policies is None or not self._is_due:
            return loaded
        reader = self._policies.kept_files.reader
        return change.policies.over(loaded, self._store.directory, reader)

    def may_be_unconfirmed(self, document: str | None, loaded: Loaded) -> bool:
        """Whether a policy with this document may be one that nobody has confirmed in time.

        `loaded` is what the store holds.
        """
        change = self.change
        if change is None or change.policies is None or not self._is_due:
            return False
        return not change.policies.had_in_force(document, loaded, self._store.directory)

    @property
    def _is_due(self) -> bool:
        change = self.change
        return change is not None and self._left(change) <= 0

    def _left(self, change: Unconfirmed) -> float:
        return change.deadline - self._clock() if change.boot == self._boot else 0.0

    def _complete(self) -> None:
        """Note what a change changed whose process ended before it had noted that.

        Dynamic rules are what that process left, which no client has changed since. Later it could
        not be told which of them are the change's.
        """
        change, state = self.change, self._enforcement.state
        if not self._is_left_incomplete or change is None:
            return
        self._is_left_incomplete = False
        if change.dynamic is not None and change.boot == self._boot:
            change = with_rules_put(change, state)
        if not is_complete(change):
            return
        self.change = change
        # Of a change that is due, what was before counts as the content of the store already.
        if not self._is_due and not has_changed(change, state):
            self.abandon()
            return
        # Should this fail, the next process finds more to put back.
        with suppress(IpsecdError):
            self._file.save(change)

    # -- a change --------------------------------------------------------------------------------

    def must_be_over(self) -> None:
        """Raise ``Refused`` while a change waits to be confirmed.

        Raises ``StoreFailed`` if one that does not is on disk: it would be put back at the next
        start, with whatever has changed since. A change of dynamic rules alone whose time is over
        is no reason to refuse: that no policy is in force may be what keeps it from being put back.
        """
        change = self.change
        if change is None or change.policies is not None or not self._is_due:
            self._must_be_none()

    def _must_be_none(self) -> None:
        change = self.change
        if change is None:
            if self._is_left_over:
                self._forget()
            return
        left = max(0.0, self._left(change))
        raise Refused(
            f"a change by {change.by} waits to be confirmed for another {left:.0f} s",
            "keep it with: ipsecctl confirm; or put it back now with: ipsecctl revert",
        )

    def begin(self, part: Part, method: str, by: str, caller: Caller) -> None:
        """Note what to put back, before a change is made; raises ``IpsecdError``."""
        state = self._enforcement.state
        _must_be_what_it_should(state)
        assert caller.options.confirm_s is not None
        is_policies = part is Part.POLICIES
        change = Unconfirmed(
            self._boot,
            self._clock() + caller.options.confirm_s,
            caller.options.login,
            caller.uid,
            caller.user,
            by,
            caller.options.terminal,
            method,
            caller.options.message,
            PoliciesBefore.of(state.loaded) if is_policies else None,
            None if is_policies else records_in(state),
        )
        with self._lock:
            self._must_be_none()
            try:
                self._file.save(change)
            except StoreFailed:
                self.abandon()
                raise
            # Whoever sees the change sees that it is not made yet.
            self._is_made, self.last, self._not_put_back = False, None, ()
            self.change, self._state_before = change, state

    def abandon(self) -> None:
        """Forget a change that was not made after all."""
        with self._lock:
            self.change, self._is_made, self._is_left_over = None, True, True
            with suppress(StoreFailed):
                self._forget()

    def _forget(self) -> None:
        """Delete the file that is left over, unless it is of another change by now."""
        with self._lock:
            if self._is_left_over:
                self._file.delete()
                self._is_left_over = False

    def made(self, confirm_s: float) -> bool:
        """Have the time begin, now that the change is made; False if it has changed nothing.

        Then nothing waits.
        """
        change, state = self.change, self._enforcement.state
        assert change is not None
        if change.policies is not None:
            change = replace(change, policies=change.policies.narrowed(state.loaded))
        else:
            dynamic, put = records_changed(self._state_before, state)
            change = replace(change, dynamic=dynamic, put=put)
        # What it refers to may be large.
        self._state_before = State()
        if not has_changed(change, state):
            self.abandon()
            return False
        change = replace(change, deadline=self._clock() + confirm_s)
        # Should this fail, the file has an earlier deadline, and more to put back.
        with suppress(IpsecdError):
            self._file.save(change)
        self.change, self._is_made = change, True
        record(logging.WARNING, "unconfirmed", method=change.method, by=change.by, wait_s=confirm_s)
        return True

    # -- its end ---------------------------------------------------------------------------------

    def left_s(self) -> float | None:
        """How many seconds are left to confirm the change; None if none waits. For any thread."""
        change = self.change
        return None if change is None else max(0.0, self._left(change))

    def due_in(self) -> float | None:
        """In how many seconds ``put_back_if_due`` has something to do; None if it never has."""
        retry_in = self._retry_at - self._clock()
        if self._is_left_over:
            return max(0.0, retry_in)
        change = self.change
        if change is None or not self._is_made:
            return None
        return max(0.0, self._left(change), retry_in)

    def confirm(self, caller: Caller) -> Unconfirmed:
        """Keep the change; raises ``NotFound``, ``Refused`` or ``StoreFailed``."""
        change = self._waiting()
        if self._is_due:
            raise Refused(
                "the time is over, and the change is being put back", "make it again, and confirm"
            )
        if change.login and change.login == caller.options.login and not caller.options.force:
            raise Refused(
                "the change was made in this login, which does not show that one can still log in",
                "log in anew and run ipsecctl confirm there; --force keeps the change all the same",
            )
        self._file.delete()
        self.change, self.problem = None, ""
        record(logging.INFO, "confirmed", method=change.method, by=change.by)
        return change

    def put_back_if_due(self) -> PutBack | None:
        """Put the change back if its time is over; what was put back."""
        self._complete()
        if self.due_in() != 0.0:
            return None
        try:
            if self._is_left_over:
                self._forget()
                return None
            return self.put_back("nobody confirmed it in time")
        except IpsecdError as error:
            self._retry_at = self._clock() + RETRY_S
            if error.message not in self.problem:
                record(logging.ERROR, "not-put-back", reason=error.message, hint=error.hint)
            self.problem = (
                f"an unconfirmed change cannot be put back for now: {error.message}\n"
                f"  hint: {error.hint}"
            )
            return None

    def put_back(self, why: str) -> PutBack:
        """Have all be as it was before the change; raises ``IpsecdError``, and may be tried again.

        What is in force comes first: a disk that is full does not keep it from being as it was.
        """
        change = self._waiting()
        if change.policies is not None:
            reader, directory = self._policies.kept_files.reader, self._store.directory
            loaded = self._enforcement.state.loaded
            self._policies.put_back(change.policies.over(loaded, directory, reader))
        if change.dynamic is not None and change.boot == self._boot:
            before, put = change.dynamic, change.put
            self._not_put_back = self._enforcement.run(
                lambda: put_rules_back(self._dynamic, before, put)
            )
        if change.policies is not None:
            try:
                put_back(self._disk, self._store.directory, change.policies)
            except OSError as error:
                raise self._store.failure(error) from error
        self._file.delete()
        self.change, self.problem = None, ""
        sentence = f"the change by {change.by} was put back: {why}"
        if self._not_put_back:
            sentence += f"; not put back: {in_words(self._not_put_back)}"
        if change.dynamic is not None and self._enforcement.state.condition is Condition.FAILED:
            sentence += "; it is in force once the kernel takes what it refused at the start"
        self.last = PutBack(change, sentence)
        record(logging.WARNING, "put-back", method=change.method, by=change.by, why=why)
        return self.last

    def _waiting(self) -> Unconfirmed:
        change = self.change
        if change is None:
            last = f"; {self.last.sentence}" if self.last else ""
            raise NotFound(
                f"no change waits to be confirmed{last}",
                "ask for it with --confirm TIME when you change something",
            )
        if not self._is_made:
            raise Refused("the change is still being made", "try again in a moment")
        return change


def _must_be_what_it_should(state: State) -> None:
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
