"""Owns changes to lists that are kept on disk; must not know how they are kept, nor the kernel.

1. A change is durable first, and then in force. Whatever fails on the way, the old lists stay, on
   disk too.
2. What is wrong with one list keeps no other from being in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import copy

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import ListsByName
from ipsecd.engine.feeds import Feeds
from ipsecd.engine.lists import ListChanges
from ipsecd.errors import MAX_HINT, IpsecdError
from ipsecd.log import record
from ipsecd.quoting import cut, few
from ipsecd.sources.lists import ListChange, ListStore


class KeptLists:
    """The lists on disk, and how they get in force; changed in the line of changes alone."""

    def __init__(
        self,
        store: ListStore,
        put_in_force: Callable[[ListChanges], None],
        check: Callable[[ListChanges], None],
    ) -> None:
        """`check` raises ``Refused`` for a change that must not be made."""
        self.store = store
        self.feeds = Feeds(store)
        self.put_in_force = put_in_force
        self.note: Callable[[ListChange], None] = lambda _: None
        """Is called with each change before it is made, and may refuse it."""
        self._check = check

    def read(self, put_back: Callable[[], None], *, booting: bool) -> ListsByName:
        """Read all lists for the first state; when `booting`, nothing is written.

        `put_back` has the store hold what was before a change whose time is over.
        """
        self.store.load(read_only=booting)
        put_back()
        for problem in self.warnings:
            record(logging.ERROR, "list-not-used", reason=problem)
        return {name: stored.addresses for name, stored in self.store.lists.items()}

    def carry_out(self, change: ListChange) -> None:
        """Make a prepared change, durable and in force at the end; raises ``IpsecdError``."""
        self._check(change.changes)
        self.note(change)
        with Attempt() as attempt:
            attempt.step(change.commit, lambda _: change.undo())
            if change.changes:
                self.put_in_force(change.changes)
        try:
            change.finish()
        except IpsecdError as error:
            # The change is made. What is left over on disk is cleaned up at the next start.
            record(logging.WARNING, "list-left-over", reason=error.message)

    def expire(self) -> None:
        """Take the entries out that have ended."""
        change = self.store.expire()
        if change:
            self.carry_out(change)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with files of lists, in words."""
        of_lists = (problem for stored in self.store.lists.values() for problem in stored.problems)
        return (*self.store.problems, *of_lists, *self.feeds.warnings)


def with_unchanged_lists(error: IpsecdError, changes: ListChanges) -> IpsecdError:
    """The error, which also says that lists of which the files have changed stay as they were."""
    names = few([f"@{name}" for name in sorted(changes)])
    stay = f"the lists whose files have changed stay as they were too: {names}"
    told = copy(error)
    told.hint = cut(f"{error.hint}; {stay}" if error.hint else stay, MAX_HINT)
    return told
