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
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Flag, auto
from math import inf
from pathlib import Path
from threading import RLock

from ipsecd.engine.caller import Caller
from ipsecd.engine.completing import (
    begun,
    has_changed,
    in_a_sentence,
    is_complete,
    is_unread,
    must_be_another_login,
    must_be_what_it_should,
    with_files_narrowed,
    with_rules_put,
)
from ipsecd.engine.dynamic import DynamicRuleChanges
from ipsecd.engine.policies import Policies
from ipsecd.engine.rules_before import NotPutBack, joined, put_rules_back, records_changed, warning
from ipsecd.engine.state import State
from ipsecd.engine.this_boot import Boot
from ipsecd.engine.waiting_lists import still_waiting
from ipsecd.errors import IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.log import record
from ipsecd.sources.files import Disk
from ipsecd.sources.lists import ListChange
from ipsecd.sources.lists_put_back import ListsPutBack
from ipsecd.sources.putting_back import put_back
from ipsecd.sources.reading import Loaded
from ipsecd.sources.unconfirmed import PoliciesBefore, Unconfirmed, UnconfirmedFile

RETRY_S = 5.0
"""The time between two tries to put back what could not be."""


class Part(Flag):
    """What a change changes that can be put back."""

    POLICIES = auto()
    DYNAMIC = auto()
    LISTS = auto()


@dataclass(frozen=True, slots=True)
class PutBack:
    """A change that was put back, and why, in words."""

    change: Unconfirmed
    sentence: str


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
        self._kept_lists = policies.kept_lists
        self._kept_lists.note = self._note_lists
        self._lists = ListsPutBack(self._kept_lists.store, directory, disk)
        self._file = UnconfirmedFile(directory, self._lists.load, disk)
        self._store = policies.store
        self._policies = policies
        self._dynamic = dynamic
        self._enforcement = policies.enforcement
        self._disk = disk or Disk()
        self._boot, self._clock = boot.name, boot.clock
        self._retry_at = -inf
        self._making: Part | None = None
        """What the change changes that is being made."""
        self._is_loaded = False
        self._is_left = False
        """Whether what an earlier process has left has not been looked at yet."""
        self._is_left_over = False
        """Whether the file may be there although no change waits."""
        self._lock = RLock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        rules, now = self._enforcement.state.dynamic, self._dynamic.clock()
        missing = [each for each in self._not_put_back if each.counts(rules, now)]
        return (*([self.problem] if self.problem else []), *([warning(missing)] if missing else []))

    # -- at start --------------------------------------------------------------------------------

    def load(self) -> None:
        """Read what an earlier process has left; the first call counts."""
        if self._is_loaded:
            return
        self._is_loaded = self._is_left = True
        try:
            self.change = self._file.load()
        except StoreFailed as error:
            self.problem = f"a change may be unconfirmed: {error.message}\n  hint: {error.hint}"
            record(logging.ERROR, "unconfirmed-not-known", reason=error.message)

    def content(self, loaded: Loaded) -> Loaded:
        """What counts as the content of the store at start, which holds `loaded`.

        That is what was before a change whose time is over. Of a change that an earlier process
        has not completed, only what differs in `loaded` counts as changed.
        """
        change = self.change
        if self._is_left and change and not is_complete(change) and not is_unread(loaded):
            change = with_files_narrowed(change, loaded)
            self.change = change
        if change is None or change.policies is None or not self._is_due:
            return loaded
        reader = self._policies.kept_files.reader
        return change.policies.over(loaded, self._store.directory, reader)

    def put_lists_back(self) -> None:
        """Have lists hold in memory what was before a change whose time is over."""
        if self.change and self.change.lists and self._is_due:
            self._lists.as_before(self.change.lists).commit()

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
        not be told which of them are the change's. A change that was not made waits for nothing.
        """
        if not self._is_left:
            return
        self._is_left = False
        change, state = self.change, self._enforcement.state
        if change is None:
            if not self.problem:
                self._lists.forget()
            return
        if change.dynamic is not None and change.put is None and change.boot == self._boot:
            change = with_rules_put(change, state)
        if not is_complete(change):
            return
        self.change = change
        # Of a change that is due, what was before counts as the content of the store already.
        if not self._is_due and not has_changed(change, state, self._lists):
            self.abandon()
        else:
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
        must_be_what_it_should(state)
        assert caller.options.confirm_s is not None
        deadline = self._clock() + caller.options.confirm_s
        change = begun(self._boot, deadline, method, by, caller)
        if Part.POLICIES in part:
            change = replace(change, policies=PoliciesBefore.of(state.loaded))
        with self._lock:
            self._must_be_none()
            # What changes of rules and lists is noted when it is known, and still before.
            if Part.POLICIES in part and Part.LISTS not in part:
                try:
                    self._file.save(change)
                except StoreFailed:
                    self.abandon()
                    raise
            # Whoever sees the change sees that it is not made yet.
            self._making, self.last, self._not_put_back = part, None, ()
            self.change = change

    def note_rules(self, before: State, after: State) -> None:
        """Note which dynamic rules become others, before they do; raises ``IpsecdError``."""
        change = self.change
        assert change is not None
        noted = (change.dynamic or {}, change.put or {})
        dynamic, put = joined(noted, records_changed(before, after))
        if dynamic or put:
            self._note(replace(change, dynamic=dynamic, put=put))

    def _note_lists(self, list_change: ListChange) -> None:
        """Note what a change of lists will change, before it is made; raises ``IpsecdError``."""
        change = self.change
        if self._making is None:
            if change and change.lists:
                left = still_waiting(change.lists, list_change, self._kept_lists.store.lists)
                if left is not change.lists:
                    self._note(replace(change, lists=left))
        elif change and Part.LISTS in self._making:
            lists = self._lists.differing(list_change)
            if lists:
                self._lists.keep(lists)
            if lists or change.policies:
                self._note(replace(change, lists=lists or None))

    def _note(self, change: Unconfirmed) -> None:
        """Have the file say what to put back of a change that is being made."""
        self._file.save(change)
        self.change = change

    def abandon(self) -> None:
        """Forget a change that was not made after all."""
        with self._lock:
            self.change, self._making, self._is_left_over = None, None, True
            with suppress(StoreFailed):
                self._forget()

    def _forget(self) -> None:
        """Delete the file that is left over, unless it is of another change by now."""
        with self._lock:
            if self._is_left_over:
                self._delete()
                self._is_left_over = False

    def _delete(self) -> None:
        self._file.delete()
        self._lists.forget()

    def made(self, confirm_s: float) -> bool:
        """Have the time begin, now that the change is made; False if it has changed nothing.

        Then nothing waits.
        """
        change, state = self.change, self._enforcement.state
        assert change is not None
        change = with_files_narrowed(change, state.loaded)
        if not has_changed(change, state, self._lists):
            self.abandon()
            return False
        change = replace(change, deadline=self._clock() + confirm_s)
        # Should this fail, the file has an earlier deadline, and more to put back.
        with suppress(IpsecdError):
            self._file.save(change)
        self.change, self._making = change, None
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
        if change is None or self._making is not None:
            return None
        return max(0.0, self._left(change), retry_in)

    def confirm(self, caller: Caller) -> Unconfirmed:
        """Keep the change; raises ``NotFound``, ``Refused`` or ``StoreFailed``."""
        change = self._waiting()
        if self._is_due:
            raise Refused(
                "the time is over, and the change is being put back", "make it again, and confirm"
            )
        must_be_another_login(change, caller)
        self._delete()
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
        lists = self._lists.as_before(change.lists or {})
        if change.policies is not None:
            reader, directory = self._policies.kept_files.reader, self._store.directory
            loaded = self._enforcement.state.loaded
            content = change.policies.over(loaded, directory, reader)
            self._policies.put_back(content, lists.changes)
        elif lists.changes:
            self._kept_lists.put_in_force(lists.changes)
        lists.commit()
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
        self._lists.write(change.lists or {})
        self._delete()
        self.change, self.problem = None, ""
        condition = self._enforcement.state.condition
        self.last = PutBack(change, in_a_sentence(change, why, self._not_put_back, condition))
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
        if self._making is not None:
            raise Refused("the change is still being made", "try again in a moment")
        return change
