"""Owns changes to lists that are kept on disk; must not know how they are kept, nor the kernel.

1. A change is durable first, and then in force. Whatever fails on the way, the old lists stay, on
   disk too.
2. What is wrong with one list keeps no other from being in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import ListsByName
from ipsecd.engine.feeds import Feeds
from ipsecd.engine.lists import ListChanges
from ipsecd.errors import IpsecdError, Refused
from ipsecd.log import record
from ipsecd.quoting import first_lines, quote
from ipsecd.sources.lists import ListChange, ListStore


class KeptLists:
    """The lists on disk, and how they get in force; changed in the line of changes alone."""

    def __init__(self, store: ListStore, put_in_force: Callable[[ListChanges], None]) -> None:
        self.store = store
        self.feeds = Feeds(store)
        self._put_in_force = put_in_force

    def read(self, *, booting: bool) -> ListsByName:
        """Read all lists for the first state; when `booting`, nothing is written."""
        self.store.load(read_only=booting)
        for problem in self.warnings:
            record(logging.ERROR, "list-not-used", reason=problem)
        return {name: stored.addresses for name, stored in self.store.lists.items()}

    def carry_out(self, change: ListChange) -> None:
        """Make a prepared change, durable and in force at the end; raises ``IpsecdError``."""
        with Attempt() as attempt:
            attempt.step(change.commit, lambda _: change.undo())
            if change.changes:
                self._put_in_force(change.changes)
        try:
            change.finish()
        except IpsecdError as error:
            # The change is made. What is left over on disk is cleaned up at the next start.
            record(logging.WARNING, "list-left-over", reason=error.message)

    def reload(self, *, may_change: bool = True) -> bool:
        """Read all files again and put in force what they say now; whether that changed any.

        Raises ``Refused``, and changes nothing, if it would change one although none `may_change`.
        """
        change = self.store.reloaded()
        if change.changes and not may_change:
            names = ", ".join(first_lines([quote(name) for name in sorted(change.changes)]))
            raise Refused(
                f"these lists were edited, and lists cannot be put back as they were: {names}",
                "run first, without --confirm: ipsecctl reload",
            )
        self.carry_out(change)
        return bool(change.changes)

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
