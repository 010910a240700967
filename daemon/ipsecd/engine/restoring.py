"""Owns how lists change together with policies, so that a crash leaves no mixture of both.

It must not know how either is kept, nor the kernel. Policies are written first, as one change; the
lists are in a file of their own until all are written, and a start writes what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ipsecd.engine.attempt import Attempt
from ipsecd.engine.lists import ListChanges
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.sources.backups import ListParts
from ipsecd.sources.files import Disk
from ipsecd.sources.lists import ListChange, ListStore
from ipsecd.sources.reading import Loaded
from ipsecd.sources.restoring_lists import restored_lists
from ipsecd.sources.static import Change, StaticStore
from ipsecd.sources.unfinished_restore import RestoreFile, UnfinishedRestore, fingerprint


@dataclass(frozen=True, slots=True)
class RestoredLists:
    """Lists that change beside policies; ``only`` are their names, None if that is all lists."""

    change: ListChange
    wanted: Mapping[str, ListParts]
    file: RestoreFile
    only: tuple[str, ...] | None = None


def make_durable(
    attempt: Attempt, before: Loaded, policies: Change, lists: RestoredLists | None
) -> None:
    """Write policies, and then lists, as steps of an attempt.

    The store of policies holds what was `before`.
    """
    if lists is None:
        attempt.step(policies.commit, lambda _: policies.undo())
        return
    begun = not policies.forward
    unfinished = UnfinishedRestore(lists.wanted, fingerprint(before), begun, lists.only)
    attempt.step(lambda: lists.file.save(unfinished), lambda _: lists.file.delete())
    attempt.step(policies.commit, lambda _: policies.undo())
    attempt.step(lists.change.commit, lambda _: lists.change.undo())
    # Should a crash come while all that is undone, the file is there again.
    attempt.step(lists.file.delete, lambda _: lists.file.save(unfinished))


class Restoring:
    """How lists are changed with policies, and how that is finished after a crash."""

    def __init__(
        self, state_dir: Path, disk: Disk | None, policies: StaticStore, lists: ListStore
    ) -> None:
        self.problem = ""
        """Why lists could not be restored to the end after a crash; empty if they were."""
        self._file = RestoreFile(state_dir, disk)
        self._policies = policies
        self._lists = lists

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        return (self.problem,) if self.problem else ()

    def lists(
        self, wanted: Mapping[str, ListParts], only: tuple[str, ...] | None = None
    ) -> RestoredLists | None:
        """Prepare to have exactly the lists `wanted`; None if these are there already.

        With `only`, the lists of other names stay as they are. Raises ``IpsecdError`` as
        ``restored_lists``.
        """
        change = restored_lists(self._lists, wanted, only)
        return RestoredLists(change, wanted, self._file, only) if change.changes else None

    def finish(self) -> None:
        """Finish at a start what a crash interrupted; raises nothing."""
        self.problem = ""
        try:
            unfinished = self._file.load()
            if unfinished is None:
                return
            if unfinished.is_to_be_finished(self._policies.load()):
                self._lists.load()
                restored_lists(self._lists, unfinished.lists, unfinished.only).commit()
            self._file.delete()
        except IpsecdError as error:
            self.problem = f"lists were being restored, and are not: {error}"
            record(logging.ERROR, "lists-not-restored", reason=error.message)

    def at_boot(self) -> ListChanges:
        """Which of the lists are to be others than their files say; writes and raises nothing."""
        try:
            unfinished = self._file.load()
            if unfinished and unfinished.is_to_be_finished(self._policies.load_read_only()):
                return restored_lists(self._lists, unfinished.lists, unfinished.only).changes
        except IpsecdError as error:
            record(logging.ERROR, "lists-not-restored", reason=error.message)
        return {}
