"""Owns what entries of lists that count have matched, in memory and on disk; fails no change.

To read a long list takes long, so it is done beside the lines of work, in a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from ipsecd.backend.base import Count
from ipsecd.backend.lines import at_once
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.entry_accounts import (
    Removal,
    moved,
    only_entries_of,
    read_anew,
    removals,
    totals,
    without,
)
from ipsecd.engine.state import State
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.model.counted_lists import CountedList
from ipsecd.model.lists import NO_ENTRIES, AddressList
from ipsecd.sources.entry_counts_file import EntryCountsFile, KeptEntries, KeptLists, to_json
from ipsecd.sources.files import Disk

SPARING = 100
"""What took a second to read is left alone for so many, unless somebody asks."""
LONG = 100_000
"""Lists of more entries are read by who asks for them, and now and then; else nobody waits for it.
Their counters stay at the end."""
BUSY_S = 0.5
"""So long somebody waits who wants no more than what is known of all lists."""


@dataclass(frozen=True, slots=True)
class EntriesCounted:
    """What entries of a list have matched, by IP version, length and address, and since when.

    ``since`` is in seconds since the epoch. Entries that have matched nothing are left out.
    """

    since: float
    counts: Mapping[bytes, Count]

    @property
    def total(self) -> Count:
        """What all entries have matched."""
        return sum(self.counts.values(), Count())


class EntryCounting:
    """The counts of all entries of lists that count."""

    def __init__(
        self,
        directory: Path,
        disk: Disk | None,
        enforcement: Enforcement,
        clock: Callable[[], float],
        place: str,
    ) -> None:
        """The file is in `directory`. `place` names boot and network namespace.

        `clock` gives seconds since the epoch.
        """
        self._file = EntryCountsFile(directory, disk)
        self._enforcement, self._clock, self._place = enforcement, clock, place
        self._lists: Mapping[str, AddressList] = {}
        self._removals: deque[Removal] = deque()
        self._earlier: list[Removal] = []
        self._lock = Lock()
        self._kept: dict[str, KeptEntries] = {}
        self._latest: dict[str, EntriesCounted] = {}
        self._due: dict[str, float] = {}
        self._saved = b""
        # An earlier process may have left counters, which go when they are read.
        self._has_begun, self._may_be_left = False, True
        self._reader: Thread | None = None
        self._problem = self._failure = ""
        enforcement.listeners.append(self.heard)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the file, in words."""
        return tuple(filter(None, (self._problem, self._failure)))

    def heard(self, state: State) -> None:
        """Take note of entries that have gone; in the kernel's line."""
        before, self._lists = self._lists, state.lists
        if before is not state.lists:
            self._removals.extend(removals(before, state.lists, self._ended_before))

    def _ended_before(self) -> Callable[[str], bool]:
        state = self._enforcement.state
        if not state.enforcing:
            return lambda _: True
        return self._enforcement.backend.entries_before()

    def begin(self) -> None:
        """Go on from what was kept; called when the first state is in force."""
        if self._has_begun:
            return
        self._has_begun = True
        try:
            kept = self._file.load()
        except IpsecdError as error:
            self._problem = str(error)
            record(logging.WARNING, "entry-counts-lost", reason=error.message)
            return
        with self._lock:
            self._kept = dict(kept.lists)
            if kept.place != self._place:
                moved(self._kept)
            only_entries_of(self._kept, self._enforcement.state.lists)

    def read(self, name: str | None = None) -> dict[str, EntriesCounted]:
        """What entries have matched of the list called `name`, or of all lists; for any thread.

        A list that does not count is not among them. Raises ``IpsecdError`` or ``OSError``.
        """
        return self._read(lambda _, list_name: name in (None, list_name), {name} - {None})

    def known(self) -> dict[str, EntriesCounted]:
        """The same of all lists; of long ones, or while somebody reads, what was read last."""
        if not self._lock.acquire(timeout=BUSY_S):
            return self._latest
        try:
            return self._read_now(lambda _, name: self._is_short(name), set())
        finally:
            self._lock.release()

    def _read(
        self, wanted: Callable[[str, str], bool], names: set[str | None]
    ) -> dict[str, EntriesCounted]:
        with self._lock:
            return self._read_now(wanted, names)

    def _read_now(
        self, wanted: Callable[[str, str], bool], names: set[str | None]
    ) -> dict[str, EntriesCounted]:
        """The same for who has the lock."""
        state = self._enforcement.state
        counts = any(isinstance(each, CountedList) for each in state.lists.values())
        if counts or self._kept or self._removals or self._earlier or self._may_be_left:
            self._forget_removed()
            if not state.held:
                self._may_be_left = state.stopped
                found = []
                if not state.stopped:
                    found = self._enforcement.backend.entry_counts(wanted, self._enforcement.run)
                for each in found:
                    if each.counts is not None:
                        self._due[each.part] = time.monotonic() + SPARING * each.took_s
                lists = self._enforcement.state.lists
                read_anew(self._kept, found, lists, self._earlier, self._clock())
                # A counter that had ended when these went, and is not read yet, still has them.
                unread = {each.list_name for each in found if each.counts is None}
                self._earlier = [each for each in self._earlier if each.name in unread]
                # These went while it was read.
                self._forget_removed()
            self._latest = {
                name: EntriesCounted(kept.since, totals(kept)) for name, kept in self._kept.items()
            }
        return {name: each for name, each in self._latest.items() if not names or name in names}

    def _forget_removed(self) -> None:
        while self._removals:
            self._earlier.append(self._removals.popleft())
            without(self._kept, self._earlier[-1])

    def keep(self, *, at_end: bool = False) -> None:
        """Read what is not too long, and write what has changed; nobody waits for it.

        `at_end` it is done before this returns. What fails is tried again with the next.
        """
        if not self._has_begun:
            return
        if at_end or self._enforcement.run is at_once:
            self._keep(at_end=at_end)
        elif self._reader is None or not self._reader.is_alive():
            self._reader = Thread(target=self._keep, name="entry-counts", daemon=True)
            self._reader.start()

    def _keep(self, *, at_end: bool = False) -> None:
        try:
            if at_end:
                self.known()
            else:
                self._read(lambda part, _: time.monotonic() >= self._due.get(part, 0.0), set())
            if not self._lock.acquire(timeout=BUSY_S):
                # Somebody reads a long list. Its counters stay, and so does what was written.
                return
            try:
                content = to_json(KeptLists(self._place, deepcopy(self._kept)))
            finally:
                self._lock.release()
            if content != self._saved and (self._kept or self._saved):
                self._file.save(content)
        except (IpsecdError, OSError) as error:
            if not self._failure:
                record(logging.WARNING, "entry-counts-not-kept", reason=error)
            self._failure = f"what entries of lists have matched cannot be kept: {error}"
        else:
            self._saved = content
            self._failure = self._problem = ""

    def _is_short(self, name: str) -> bool:
        return len(self._enforcement.state.lists.get(name, NO_ENTRIES)) <= LONG
