"""Owns the static store: policy files that people edit, and the link to the assigned one.

Invariants:

1. A change to any number of files is one change: after a crash all of it has happened, or nothing.
2. An edit by hand since a file was loaded is never lost: it is what somebody edits further, or it
   is kept under another name when a command replaces it. None replaces a good edit unasked.
3. A file that cannot be used is reported, and does not keep others from being used.
4. What is written can be read again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from ipsecd.errors import LimitExceeded, StoreFailed
from ipsecd.language.documents import format_policy
from ipsecd.model.values import Policy
from ipsecd.sources.files import TEMPORARY, Disk, temporary_of
from ipsecd.sources.links import UnsafeLink, place_to_write
from ipsecd.sources.made import Written as WrittenFiles
from ipsecd.sources.made import is_made
from ipsecd.sources.planning import Over, Plan, Written, must_be_followed
from ipsecd.sources.reading import (
    MAX_FILE_BYTES,
    POLICIES,
    SHARED,
    SUFFIX,
    Loaded,
    StoredPolicy,
    StoredShared,
    read_store,
    slug_of,
)
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.steps import (
    NotBegun,
    Step,
    UnusableJournal,
    abandon,
    carry_out,
    interrupted,
    recover,
)

_HINT = "look at the free space, the mount options and the owner of the directory"
_HINTS = {
    errno.EROFS: "look at the mount options and, for a file behind a link, at ReadWritePaths= of "
    "the daemon's unit; or edit the file, and run: ipsecctl reload",
    errno.EPERM: "look at the owner and the attributes of the file, which root can give to root "
    "with chown; or edit the file, and run: ipsecctl reload",
}


class Keep(Enum):
    """Says that the policy that is assigned stays assigned."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Kept:
    """What a change has kept of what somebody wrote, and what it has not.

    ``copies`` are the paths of copies of files that somebody had edited, and that are replaced.
    ``laid_anew`` are the policies whose files have lost their comments and layout.
    """

    copies: tuple[str, ...] = ()
    laid_anew: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """What is known besides what was loaded.

    ``refused`` is what the last reload has read, if it was refused. ``stand_in`` is the name of the
    last good policy, if that is in force because the assigned file cannot be used.
    """

    refused: Loaded | None = None
    stand_in: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A prepared change: its steps, the steps that undo it, and what the store holds after it."""

    store: StaticStore
    forward: tuple[Step, ...]
    back: tuple[Step, ...]
    after: Loaded
    kept: Kept = field(default_factory=Kept)

    @property
    def written(self) -> tuple[str, ...]:
        """The paths of the files that the change writes or deletes."""
        return tuple(step.path for step in self.forward)

    def commit(self) -> None:
        """Make the change, which is on disk when this returns.

        After ``StoreFailed`` the old state is on disk.
        """
        try:
            self.store.carry_out(self.forward)
        except NotBegun as error:
            raise self.store.failure(error) from error
        except OSError as error:
            failure = self.store.failure(error)
            try:
                self.undo()
            except StoreFailed as undo_error:
                self.store.abandon()
                failure.hint += f"; putting the old state back failed too: {undo_error.message}"
            raise failure from error

    def undo(self) -> None:
        """Put the old state back; raises ``StoreFailed``."""
        try:
            self.store.carry_out(self.back)
        except OSError as error:
            raise self.store.failure(error) from error


class StaticStore:
    """The policies under one directory."""

    def __init__(
        self, directory: Path, disk: Disk | None = None, reader: PolicyReader | None = None
    ) -> None:
        """`reader` remembers the policies that need not be read again."""
        self._directory = directory
        self._disk = disk or Disk()
        self._reader = reader or PolicyReader()

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    def path(self, stored: StoredPolicy) -> Path:
        """The path of a policy's file."""
        return self._directory / stored.path

    def load(self) -> Loaded:
        """Finish a change that a crash interrupted, and read everything; raises ``StoreFailed``."""
        try:
            (self._directory / POLICIES).mkdir(parents=True, exist_ok=True)
            recover(self._disk, self._directory)
            self._delete_leftovers()
            return read_store(self._disk, self._directory, self._reader)
        except OSError as error:
            raise self.failure(error) from error

    def load_read_only(self) -> Loaded:
        """Read everything and write nothing; raises ``StoreFailed`` if a change has to be finished.

        This is for a file system that may not be writable yet.
        """
        try:
            with suppress(UnusableJournal):
                if interrupted(self._disk, self._directory) is not None:
                    raise StoreFailed(
                        f"a change to {str(self._directory)!r} was interrupted",
                        "the daemon finishes it when it starts",
                    )
            return read_store(self._disk, self._directory, self._reader)
        except OSError as error:
            raise self.failure(error) from error

    def is_on_disk(self, stored: StoredPolicy) -> bool:
        """Whether the policy's file still has the content that was loaded from it."""
        return self.holds(stored.path, stored.text)

    def holds(self, path: str, text: str) -> bool:
        """Whether a file holds just this text."""
        try:
            return self._content(path) == text.encode()
        except OSError:
            return False

    def change(
        self,
        expected: Loaded,
        *,
        put: Sequence[Policy] = (),
        written: Sequence[Written] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
        read: Read | None = None,
        shared: str | None = None,
    ) -> Change:
        """Prepare a change; nothing is written yet. The files should hold what is `expected`.

        What is `put` keeps the comments and the layout of its file, and what is `written` is stored
        byte by byte, and so is the document of `shared` filters, if it is given. Raises ``Refused``
        if a file that the change concerns, or the assigned link, was edited otherwise, and
        ``LimitExceeded`` for a policy whose file could not be read again.
        """
        read = read or Read()
        plan = Plan(self._directory, self._disk, self._reader, read.refused)
        policies = dict(expected.policies)
        laid_anew = []
        for new in (*written, *(self._laid_out(policy, expected) for policy in put)):
            if new.is_laid_anew:
                laid_anew.append(new.policy.name)
            _must_be_readable(new)
            name = new.policy.name
            stored = expected.policies.get(name)
            taken = {policy_file.path for policy_file in policies.values()}
            path = new.path or self._path_for(new, taken, expected, read.stand_in)
            if new.base is not None:
                loaded: str | None = new.base
            else:
                loaded = stored.text if stored and stored.path == path else None
            plan.write(path, new.text, loaded, new.over)
            policies[name] = StoredPolicy(new.policy, path, new.text)
            self._reader.remember(new.text, new.policy)
        for name in delete:
            stored = policies.pop(name)
            plan.delete(stored.path, stored.text)
        if shared is not None:
            plan.write_shared(shared, expected)
        after = replace(expected, policies=policies).mended(step.path for step in plan.forward)
        after = after.with_copies(self._directory, expected)
        if shared is not None:
            filters = self._reader.read_shared(shared, str(self._directory / SHARED))
            after = replace(after, shared=StoredShared(filters, shared))
        if assign is not KEEP:
            target = policies[assign].path if isinstance(assign, str) else None
            plan.assign(target, expected)
            assigned = assign if isinstance(assign, str) else None
            after = replace(
                after, link=target, assigned_path=target, assigned=assigned, assigned_error=None
            )
        elif expected.assigned_error and not after.assigned_error:
            after = replace(after, assigned=_name_at(after.assigned_path, policies))
        kept = Kept(tuple(plan.kept_copies), tuple(laid_anew))
        return Change(self, tuple(plan.forward), tuple(plan.back), after, kept)

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Carry out prepared steps as one change; raises ``OSError``."""
        if steps:
            carry_out(self._disk, self._directory, steps)

    def abandon(self) -> None:
        """Forget a change that could be neither made nor undone, if the disk permits it."""
        with suppress(OSError):
            abandon(self._disk, self._directory)

    def failure(self, error: OSError) -> StoreFailed:
        """The error to raise when the disk fails."""
        where = error.filename or self._directory
        return StoreFailed(
            f"{str(where)!r} cannot be read or written: {error.strerror}",
            _HINTS.get(error.errno or 0, _HINT),
        )

    def is_made(self, written: WrittenFiles) -> bool:
        """Whether a change that was to write this was made, or is to be finished."""
        return is_made(self._disk, self._directory, written)

    def content_of(self, path: str) -> bytes | None:
        """What the file at `path` holds, loaded or not; None if there is none.

        Raises ``Refused`` if it is a link that nothing is written through, and ``StoreFailed``.
        """
        file = self._directory / path
        must_be_followed(file)
        try:
            return self._content(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.failure(error) from error

    def _delete_leftovers(self) -> None:
        """Delete what interrupted changes have left over, if the disk permits it."""
        folders = (self._directory, self._directory / POLICIES)
        temporaries = [file for folder in folders for file in folder.glob(f".*{TEMPORARY}")]
        for link in (self._directory / POLICIES).glob(f"[!.]*{SUFFIX}"):
            with suppress(UnsafeLink):
                if (file := place_to_write(link)) != link:
                    temporaries.append(temporary_of(file))
        for file in filter(os.path.lexists, temporaries):
            with suppress(OSError):
                self._disk.unlink(file)

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(self._directory / path)  # noqa: PTH112 - raises nothing

    def _content(self, path: str) -> bytes:
        return self._disk.read(self._directory / path, MAX_FILE_BYTES)

    def _laid_out(self, policy: Policy, expected: Loaded) -> Written:
        """A policy as its file is to hold it: its comments and layout stay, if that can be."""
        stored = expected.policies.get(policy.name)
        text = format_policy(policy)
        if stored is None or stored.text == format_policy(stored.policy):
            return Written(policy, text, over=Over.NOTHING)
        from ipsecd.language.layout import edited_text  # noqa: PLC0415 - few need it

        edited = edited_text(stored.text, policy)
        if edited is None:
            return Written(policy, text, over=Over.NOTHING, is_laid_anew=True)
        # Its rules may stand in another order than they were given in.
        policy = self._reader.read(edited, str(self._directory / stored.path))
        return Written(policy, edited, over=Over.NOTHING)

    def _path_for(
        self, new: Written, paths_taken: set[str], expected: Loaded, stand_in: str | None
    ) -> str:
        """The path for a policy: that of its file, even if that is broken, or a new one."""
        name = new.policy.name
        slug = slug_of(name)
        if new.over is not Over.NOTHING:
            for file in expected.broken:
                owner = expected.owner_of(file, stand_in)
                unnamed = owner is None and file.path == f"{POLICIES}/{slug}{SUFFIX}"
                free = file.path not in paths_taken and not self._is_folder(file.path)
                if free and (unnamed or owner == name) and not file.is_copy:
                    return file.path
        if name in expected.policies:
            return expected.policies[name].path
        number = 1
        while True:
            path = f"{POLICIES}/{slug}{f'-{number}' if number > 1 else ''}{SUFFIX}"
            if path not in paths_taken and not os.path.lexists(self._directory / path):
                return path
            number += 1


def _must_be_readable(new: Written) -> None:
    """Raise ``LimitExceeded`` if the file of a policy would be too large to be read again."""
    size = len(new.text.encode())
    if size > MAX_FILE_BYTES:
        raise LimitExceeded(
            f"the file of policy {new.policy.name!r} would be {size:,} bytes long, and at most "
            f"{MAX_FILE_BYTES:,} can be read again",
            "merge filters into prefixes, or split the policy; nothing has changed",
        )


def _name_at(path: str | None, policies: dict[str, StoredPolicy]) -> str | None:
    return next((name for name, stored in policies.items() if stored.path == path), None)
