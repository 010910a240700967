"""Owns the static store: policy files that people edit, and the link to the assigned one.

Invariants:

1. A change to any number of files is one change: after a crash all of it has happened, or nothing.
2. An edit by hand since a file was loaded is never lost: a good edit is not overwritten, and a file
   that cannot be used is kept under another name when the policy is stored anew.
3. A file that cannot be used is reported, and does not keep others from being used.
4. What is written can be read again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ipsecd.errors import IpsecdError, LimitExceeded, Refused, StoreFailed
from ipsecd.language.documents import format_policy
from ipsecd.model.values import Policy
from ipsecd.sources.files import TEMPORARY, Disk, temporary_of
from ipsecd.sources.reading import (
    ASSIGNED,
    MAX_FILE_BYTES,
    POLICIES,
    SUFFIX,
    Loaded,
    StoredPolicy,
    parse_file,
    path_of_link,
    read_link,
    read_store,
)
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.steps import (
    NotBegun,
    Step,
    UnusableJournal,
    abandon,
    carry_out,
    file_behind_links,
    free_name,
    interrupted,
    recover,
)


class Keep(Enum):
    """Says that the policy that is assigned stays assigned."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Change:
    """A prepared change: its steps, the steps that undo it, and what the store holds after it.

    ``kept_copies`` are the paths of copies of files that cannot be used and are replaced.
    """

    store: StaticStore
    forward: tuple[Step, ...]
    back: tuple[Step, ...]
    after: Loaded
    kept_copies: tuple[str, ...]

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
        try:
            return self._content(stored.path) == stored.text.encode()
        except OSError:
            return False

    def change(
        self,
        expected: Loaded,
        *,
        put: Sequence[Policy] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
        repair: bool = False,
        is_refused: Callable[[StoredPolicy], bool] = lambda _: False,
    ) -> Change:
        """Prepare a change; nothing is written yet. The files should hold what is `expected`.

        With `repair`, a file that cannot be used, or holds an edit for which `is_refused` is true,
        is replaced and a copy kept. Raises ``Refused`` if a file that the change concerns, or the
        assigned link, was edited otherwise, and ``LimitExceeded`` for a policy whose file could
        not be read again.
        """
        plan = _Plan(self._directory, self._disk, self._reader, repair, is_refused)
        policies = dict(expected.policies)
        for policy in put:
            stored = expected.policies.get(policy.name)
            paths_taken = {policy_file.path for policy_file in policies.values()}
            path = (
                stored.path
                if stored
                else self._path_for(policy.name, paths_taken, expected, repair)
            )
            new = policies[policy.name] = StoredPolicy(policy, path, _readable_text(policy))
            plan.write(path, new.text, stored.text if stored else None)
            self._reader.remember(new.text, policy)
        for name in delete:
            stored = policies.pop(name)
            plan.delete(stored.path, stored.text)
        after = replace(expected, policies=policies).mended(step.path for step in plan.forward)
        if assign is not KEEP:
            target = policies[assign].path if isinstance(assign, str) else None
            plan.assign(target, expected)
            assigned = assign if isinstance(assign, str) else None
            after = replace(
                after, link=target, assigned_path=target, assigned=assigned, assigned_error=None
            )
        elif expected.assigned_error and not after.assigned_error:
            after = replace(after, assigned=_name_at(after.assigned_path, policies))
        return Change(self, tuple(plan.forward), tuple(plan.back), after, tuple(plan.kept_copies))

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
            "look at the free space, the mount options and the owner of the directory",
        )

    def _delete_leftovers(self) -> None:
        """Delete what interrupted changes have left over, if the disk permits it."""
        folders = (self._directory, self._directory / POLICIES)
        temporaries = [file for folder in folders for file in folder.glob(f".*{TEMPORARY}")]
        links = (self._directory / POLICIES).glob(f"[!.]*{SUFFIX}")
        behind_links = [
            temporary_of(file) for link in links if (file := file_behind_links(link)) != link
        ]
        for file in (*temporaries, *filter(os.path.lexists, behind_links)):
            with suppress(OSError):
                self._disk.unlink(file)

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(self._directory / path)  # noqa: PTH112 - raises nothing

    def _content(self, path: str) -> bytes:
        return self._disk.read(self._directory / path, MAX_FILE_BYTES)

    def _path_for(self, name: str, paths_taken: set[str], expected: Loaded, repair: bool) -> str:
        """The path for a policy that is new, or that replaces a broken file."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "policy"
        if repair:
            for file in expected.broken:
                unnamed = file.policy is None and file.path == f"{POLICIES}/{slug}{SUFFIX}"
                free = file.path not in paths_taken and not self._is_folder(file.path)
                if free and (unnamed or file.policy == name):
                    return file.path
        number = 1
        while True:
            path = f"{POLICIES}/{slug}{f'-{number}' if number > 1 else ''}{SUFFIX}"
            if path not in paths_taken and not os.path.lexists(self._directory / path):
                return path
            number += 1


class _Plan:
    """Collects the steps of a change, each with the step that undoes it."""

    def __init__(
        self,
        directory: Path,
        disk: Disk,
        reader: PolicyReader,
        repair: bool,
        is_refused: Callable[[StoredPolicy], bool],
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._reader = reader
        self._repair = repair
        self._is_refused = is_refused
        self.forward: list[Step] = []
        self.back: list[Step] = []
        self.kept_copies: list[str] = []

    def write(self, path: str, text: str, expected: str | None) -> None:
        """Write a file that should hold the text `expected`, or not exist if that is None."""
        file = self._directory / path
        if self._holds(file, expected):
            self.forward.append(Step(path, text=text))
            self.back.append(self._restoring_step(path, expected))
            return
        self._check_replaceable(path)
        if os.path.lexists(file):
            name = free_name(file_behind_links(file))
            self.kept_copies.append(str(file_behind_links(file).with_name(name)))
            self.forward.append(Step(path, text=text, kept=name))
            self.back.append(Step(path, moved=name))
        else:
            self.forward.append(Step(path, text=text))
            self.back.append(self._restoring_step(path, None))

    def delete(self, path: str, expected: str) -> None:
        """Delete a file that should hold the text `expected`."""
        if not self._holds(self._directory / path, expected):
            raise self._edited(path)
        self.forward.append(Step(path))
        link, _ = read_link(self._directory / path)
        self.back.append(Step(path, target=link) if link else Step(path, text=expected))

    def assign(self, target: str | None, expected: Loaded) -> None:
        """Let the assigned link lead to `target`, or be absent."""
        link, error = read_link(self._directory / ASSIGNED)
        if link != expected.link and not error and self._is_good(link):
            raise _edited_since(self._directory / ASSIGNED)
        if error:
            name = free_name(self._directory / ASSIGNED)
            self.kept_copies.append(str(self._directory / name))
            self.forward.append(Step(ASSIGNED, target=target, kept=name))
            self.back.append(Step(ASSIGNED, moved=name))
        else:
            self.forward.append(Step(ASSIGNED, target=target))
            self.back.append(Step(ASSIGNED, target=link))

    def _restoring_step(self, path: str, expected: str | None) -> Step:
        """The step that restores a file as it is now, which holds what was expected."""
        link, _ = read_link(self._directory / path)
        if expected is None and link:
            return Step(path, target=link)
        return Step(path, text=expected)

    def _holds(self, file: Path, expected: str | None) -> bool:
        try:
            content = self._disk.read(file, MAX_FILE_BYTES)
        except FileNotFoundError:
            return expected is None
        except OSError:
            return False
        return expected is not None and content == expected.encode()

    def _check_replaceable(self, path: str) -> None:
        """Raise ``Refused`` if somebody has edited the file at `path` and it can be used."""
        if not self._repair:
            raise self._edited(path)
        try:
            stored = parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, FileNotFoundError):
            return
        if not self._is_refused(stored):
            raise _edited_since(self._directory / path)

    def _edited(self, path: str) -> Refused:
        """The error for an edited file, with a hint for a good edit or for a bad one."""
        try:
            parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, FileNotFoundError) as error:
            reason = error.message if isinstance(error, IpsecdError) else "it is not there"
            return Refused(
                f"{str(self._directory / path)!r} was edited since it was loaded, and cannot be "
                f"used: {reason}",
                "mend it and run: ipsecctl reload; or replace it, which keeps it beside, with: "
                "ipsecctl apply FILE",
            )
        return _edited_since(self._directory / path)

    def _is_good(self, link: str | None) -> bool:
        """Whether the assigned link can be used: it is absent, or leads to a policy."""
        path = path_of_link(self._directory, link)
        if path is None:
            return True
        try:
            parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, OSError):
            return False
        return True


def _readable_text(policy: Policy) -> str:
    """The policy as its file holds it; raises ``LimitExceeded`` if it would be too large."""
    text = format_policy(policy)
    size = len(text.encode())
    if size > MAX_FILE_BYTES:
        raise LimitExceeded(
            f"the file of policy {policy.name!r} would be {size:,} bytes long, and at most "
            f"{MAX_FILE_BYTES:,} can be read again",
            "merge filters into prefixes, or split the policy; nothing has changed",
        )
    return text


def _name_at(path: str | None, policies: dict[str, StoredPolicy]) -> str | None:
    return next((name for name, stored in policies.items() if stored.path == path), None)


def _edited_since(path: Path) -> Refused:
    return Refused(
        f"{str(path)!r} was edited since it was loaded", "run: ipsecctl reload, then try again"
    )
