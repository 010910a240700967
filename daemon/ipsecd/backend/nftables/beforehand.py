"""Owns what the nftables backend loads before any rule uses it: all at once, or while it is read.

Must not know rules, nor the switch to what was loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from ipsecd.backend.base import Line
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.ahead import LEAST_BYTES, ListAhead
from ipsecd.backend.nftables.early import EarlySets
from ipsecd.backend.nftables.held import Entries, Held
from ipsecd.backend.nftables.lists import ListForm, ListSet
from ipsecd.backend.nftables.new_sets import NewSets
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Volatile
from ipsecd.progress import Tell, silent


class SetsBeforehand(ABC):
    """The part of the backend that has threads beside the one that speaks to the kernel."""

    _classifier: Classifier | None
    _clock: Callable[[], float]
    _drifted: bool
    _early: EarlySets
    _entries: Entries
    _held: Held
    _new: NewSets

    @abstractmethod
    def _commit(self, steps: list[Message]) -> None:
        """Carry out a transaction; raises ``BackendFailed`` or ``LimitExceeded``."""

    @abstractmethod
    def _settle(self, *, clean_up: bool = True) -> None:
        """Clean up after a change and take note of what the table is now."""

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        """Load large sets in small transactions; no rule uses them yet.

        They are those of `classifier`, and those of dynamic rules that hold something else now.
        """
        if self._classifier is None or self._drifted:
            return
        early = run(self._early_sets)
        commit = partial(self._load_early, early)
        early.load(self._held.missing_tables(classifier), self._new.of_table, run, commit, tell)
        missing_lists = run(lambda: self._held).missing_lists(classifier, early)
        commit = partial(self._load_early, early, are_counted=False)
        early.load_lists(missing_lists, self._new.of_list, run, commit, tell)
        held = run(lambda: self._entries)
        others = [table for table in dynamic.tables if held.get(table.id) is not table.entries]
        early.load_dynamic(others, self._new.of_table, run, commit, self._clock)

    def load_ahead(self, name: str, size: int, run: Line) -> ListAhead | None:
        """What loads a list while its text of `size` bytes is read; None if that is of no use.

        For any thread but the one of `run`.
        """
        lists = self._classifier.lists if self._classifier and not self._drifted else {}
        if name not in lists or size < LEAST_BYTES:
            return None
        early = EarlySets(is_ahead=True)

        def make(form: ListForm, count: int) -> ListSet:
            list_set = run(lambda: self._new.for_entries_to_come(form, count))
            early.names |= {list_set.set_name}
            return list_set

        def commit(messages: list[Message]) -> bool:
            return run(lambda: self._load_early(early, messages, are_counted=False))

        run(lambda: setattr(self, "_early", early))
        forget = partial(run, lambda: self._forget_early(early))
        ahead = ListAhead(name, size, self._held.lists, make, commit, forget)
        early.loaded_ahead = ahead.loaded
        return ahead

    def _early_sets(self) -> EarlySets:
        """The sets that are loaded early, to which others come: those of a list that was read."""
        if not self._early.is_ahead:
            self._early = EarlySets()
        return self._early

    def _forget_early(self, early: EarlySets) -> None:
        """Delete sets that were loaded ahead, unless they are in force or given up already."""
        if early is self._early:
            self._early = EarlySets()
            if early.names:
                self._settle()

    def discard(self) -> None:
        """Delete the sets that were loaded and that no rule uses."""
        self._early = EarlySets()
        self._settle()

    def _load_early(
        self, early: EarlySets, messages: list[Message], *, are_counted: bool = True
    ) -> bool:
        """Carry out a transaction that loads sets; not if they have been given up meanwhile."""
        if early is not self._early:
            return False
        self._commit(messages)
        # Elements that are not counted in the fingerprint leave it as it is.
        if are_counted or any(message.kind != nft.NEWSETELEM for message in messages):
            self._settle(clean_up=False)
        return True
