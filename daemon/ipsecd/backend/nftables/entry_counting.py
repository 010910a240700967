"""Owns reading what entries of lists have matched, and deleting the sets that count no more.

A set that no rule looks into any more holds its last values, so nothing has to be read before a
change: it stays until somebody has read it, which may take long and keeps nobody waiting.
Invariants:

1. A set is deleted only after all that it holds was told.
2. Sets that wait to be read are few: a list that is laid out anew again and again, and is read by
   nobody, must not fill the memory of the kernel.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing

from ipsecd.backend.base import EntryCounts, Line, WantsEntries
from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.early import EarlySets
from ipsecd.backend.nftables.held import Held
from ipsecd.backend.nftables.naming import COUNTED, TABLE, serial_of, stem
from ipsecd.backend.nftables.new_sets import NewSets
from ipsecd.backend.nftables.reading import CountedSet, TableReader
from ipsecd.backend.nftables.wire import Message, NftSocket

MOST_WAITING = 4
"""So many sets of one form of a list wait to be read; of more, the oldest are given up."""


class CountsEntries(ABC):
    """The part of the backend that knows what entries of lists have matched."""

    _early: EarlySets
    _held: Held
    _new: NewSets
    _reader: TableReader

    @abstractmethod
    def _commit(self, steps: list[Message]) -> None:
        """Carry out a transaction; raises ``BackendFailed`` or ``LimitExceeded``."""

    @abstractmethod
    def _settle(self, *, clean_up: bool = True) -> None:
        """Clean up after a change and take note of what the table is now."""

    def entry_counts(self, wanted: WantsEntries, run: Line = at_once) -> list[EntryCounts]:
        """What sets hold that count or have counted; those that count no more go, if they are read.

        A socket of its own reads them, in the thread that asks.
        """
        part, present, over = run(self._begin_reading)
        found: list[EntryCounts] = []
        deleted: list[str] = []
        with closing(NftSocket()) as socket:
            reader = TableReader(socket)
            for each in present:
                named = f"{part} {each.handle}"
                if not wanted(named, each.list_name):
                    found.append(EntryCounts(named, each.list_name, each.form, each.name, None))
                    continue
                begun = time.monotonic()
                counts, is_whole = reader.entry_counts(each)
                # A set that no rule looks into and nothing changes is whole at the next try.
                has_ended = each.name in over and is_whole
                if has_ended:
                    deleted.append(each.name)
                took_s = time.monotonic() - begun
                found.append(
                    EntryCounts(
                        named, each.list_name, each.form, each.name, counts, took_s, has_ended
                    )
                )
        if deleted:
            run(lambda: self._delete_counted(deleted))
        return found

    def entries_before(self) -> Callable[[str], bool]:
        """Tells of a set that has ended whether it had done so now; for the kernel's line."""
        held, last = self._counted_names(), self._new.last
        return lambda name: name not in held and serial_of(name) <= last

    def _begin_reading(self) -> tuple[str, list[CountedSet], set[str]]:
        """What counts, all sets that do or did, and the names of those that no packet can see."""
        part = f"nftables {self._reader.handle()}"
        present = self._reader.counted_sets()
        in_use = self._counted_names() | self._early.names
        over = {each.name for each in present if each.name not in in_use}
        if over:
            wait_for_packets()
        return part, present, over

    def _counted_names(self) -> frozenset[str]:
        return frozenset(name for name in self._held.names if name.startswith(COUNTED))

    def _delete_counted(self, names: Iterable[str]) -> None:
        """Delete sets that were read, as far as they are there and not in use again."""
        in_use = self._held.names | self._early.names
        present = {each.name for each in self._reader.counted_sets()}
        steps = [nft.delete_set(TABLE, n) for n in names if n in present and n not in in_use]
        if steps:
            self._commit(steps)
            self._settle(clean_up=False)

    def _given_up(self) -> list[Message]:
        """Delete the oldest of sets that wait to be read, of those of which too many do."""
        in_use = self._held.names | self._early.names
        waiting = [each for each in self._reader.counted_sets() if each.name not in in_use]
        left = Counter(stem(each.name) for each in waiting)
        steps = []
        for each in waiting:
            if left[stem(each.name)] > MOST_WAITING:
                left[stem(each.name)] -= 1
                steps.append(nft.delete_set(TABLE, each.name))
        return steps
