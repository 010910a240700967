"""Owns changes to lists that are kept on disk; must not know how they are kept, nor the kernel.

1. A change is durable first, and then in force. Whatever fails on the way, the old lists stay, on
   disk too.
2. What is wrong with one list keeps no other from being in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import ListsByName
from ipsecd.engine.feeds import Feeds
from ipsecd.engine.lists import ListChanges, Lists, counting
from ipsecd.errors import MAX_HINT, IpsecdError
from ipsecd.log import record
from ipsecd.quoting import cut, few
from ipsecd.sources.counted_names import CountedNames
from ipsecd.sources.files import Disk
from ipsecd.sources.lists import ListChange, ListStore


class KeptLists:
    """The lists on disk, and how they get in force; changed in the line of changes alone."""

    def __init__(
        self,
        store: ListStore,
        lists: Lists,
        directory: Path,
        disk: Disk | None,
    ) -> None:
        """`lists` puts them in force. Which of them count is kept in `directory`."""
        self.store = store
        self.counted: frozenset[str] = frozenset()
        """The names of the lists that count what their entries match."""
        self._names, self._lists, self._problem = CountedNames(directory, disk), lists, ""
        self.feeds = Feeds(store)
        self.put_in_force = lists.change
        self.note: Callable[[ListChange], None] = lambda _: None
        """Is called with each change before it is made, and may refuse it."""

    def read(self, put_back: Callable[[], None], *, booting: bool) -> ListsByName:
        """Read all lists for the first state; when `booting`, nothing is written.

        `put_back` has the store hold what was before a change whose time is over.
        """
        self.store.load(read_only=booting)
        try:
            self.counted, self._problem = self._names.load(), ""
        except IpsecdError as error:
            self._problem = str(error)
        put_back()
        for problem in self.warnings:
            record(logging.ERROR, "list-not-used", reason=problem)
        lists = {name: stored.addresses for name, stored in self.store.lists.items()}
        return counting(lists, self.counted)

    def carry_out(self, change: ListChange) -> None:
        """Make a prepared change, durable and in force at the end; raises ``IpsecdError``."""
        self._lists.check(change.changes)
        self.note(change)
        with Attempt() as attempt:
            if gone := {name for name, after in change.after.items() if after is None}:
                # One that is made later under this name is another list.
                self._have_count(attempt, self.counted - gone)
            attempt.step(change.commit, lambda _: change.undo())
            if change.changes:
                self.put_in_force(change.changes)
        try:
            change.finish()
        except IpsecdError as error:
            # The change is made. What is left over on disk is cleaned up at the next start.
            record(logging.WARNING, "list-left-over", reason=error.message)

    def create(self, change: ListChange, name: str, *, counts: bool) -> None:
        """Make a list, which counts what its entries match or does not; raises ``IpsecdError``."""
        self._lists.check(change.changes)
        with Attempt() as attempt:
            names = self.counted | {name} if counts else self.counted - {name}
            self._have_count(attempt, names)
            self.carry_out(change)

    def count(self, names: frozenset[str]) -> None:
        """Have the lists of these names count, and no others; durable and in force at the end."""
        with Attempt() as attempt:
            self._have_count(attempt, names)

    @contextmanager
    def counting_also(self, names: frozenset[str]) -> Iterator[None]:
        """Have the lists of these names count, too; if the block fails, as many count as before.

        Those that have counted before keep what they have, whatever becomes of the block.
        """
        with Attempt() as attempt:
            self._have_count(attempt, self.counted | names)
            yield

    def _have_count(self, attempt: Attempt, names: frozenset[str]) -> None:
        before = self.counted
        if names != before:
            attempt.step(lambda: self._names.save(names), lambda _: self._names.save(before))
            attempt.step(lambda: self._lists.count(names), lambda _: self._lists.count(before))
            attempt.step(lambda: self._take(names), lambda _: self._take(before))

    def _take(self, names: frozenset[str]) -> None:
        self.counted, self._problem = names, ""

    def expire(self) -> None:
        """Take the entries out that have ended."""
        change = self.store.expire()
        if change:
            self.carry_out(change)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with files of lists, in words."""
        of_lists = (problem for stored in self.store.lists.values() for problem in stored.problems)
        counted = [self._problem] if self._problem else []
        return (*self.store.problems, *of_lists, *self.feeds.warnings, *counted)


def with_unchanged_lists(error: IpsecdError, changes: ListChanges) -> IpsecdError:
    """The error, which also says that lists of which the files have changed stay as they were."""
    names = few([f"@{name}" for name in sorted(changes)])
    stay = f"the lists whose files have changed stay as they were too: {names}"
    told = copy(error)
    told.hint = cut(f"{error.hint}; {stay}" if error.hint else stay, MAX_HINT)
    return told
