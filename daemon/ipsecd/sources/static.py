"""Owns the static store: policy files that people edit, and the link to the assigned one.

Invariants:

1. A change to any number of files is one change: after a crash it has happened or it has not.
2. What was edited by hand since it was loaded is never lost: a good edit is not overwritten, and
   one that cannot be used is kept under another name when the policy is stored anew.
3. A file that cannot be used is reported, and is in nobody's way.
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
    followed,
    interrupted,
    recover,
)


class Keep(Enum):
    """Says that whichever policy is assigned stays so."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was prepared: its steps, those that lead back, and what is stored after it.

    ``kept`` are the names under which files stay that could not be used and were replaced.
    """

    store: StaticStore
    forward: tuple[Step, ...]
    back: tuple[Step, ...]
    after: Loaded
    kept: tuple[str, ...]

    @property
    def written(self) -> tuple[str, ...]:
        """The paths of what the change writes."""
        return tuple(step.path for step in self.forward)

    def commit(self) -> None:
        """Make the change, on disk when this returns; after ``StoreFailed`` the old state is."""
        try:
            self.store.carry_out(self.forward)
        except NotBegun as error:
            raise self.store.failure(error) from error
        except OSError as error:
            failure = self.store.failure(error)
            try:
                self.undo()
            except StoreFailed as second:
                self.store.abandon()
                failure.hint += f"; putting the old state back failed too: {second.message}"
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
        """`reader` knows what need not be read again."""
        self._directory = directory
        self._disk = disk or Disk()
        self._reader = reader or PolicyReader()

    def path(self, stored: StoredPolicy) -> Path:
        """Where a policy's file is."""
        return self._directory / stored.path

    def load(self) -> Loaded:
        """Read everything; finishes a change that a crash interrupted. Raises ``StoreFailed``."""
        try:
            (self._directory / POLICIES).mkdir(parents=True, exist_ok=True)
            recover(self._disk, self._directory)
            self._sweep()
            return read_store(self._disk, self._directory, self._reader)
        except OSError as error:
            raise self.failure(error) from error

    def look(self) -> Loaded:
        """Read everything and write nothing; raises ``StoreFailed`` if a change has to be finished.

        For a file system that may not be writable yet.
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
        """Whether the policy's file says what was loaded from it."""
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
        """Prepare a change to what was `expected`; nothing is written yet.

        With `repair`, a file that cannot be used, or holds an edit that `is_refused`, is replaced
        and kept under another name. Raises ``Refused`` if a file the change concerns, or the
        assigned link, was edited otherwise, and ``LimitExceeded`` for a policy whose file could
        not be read again.
        """
        plan = _Plan(self._directory, self._disk, self._reader, repair, is_refused)
        policies = dict(expected.policies)
        for policy in put:
            known = expected.policies.get(policy.name)
            taken = {stored.path for stored in policies.values()}
            path = known.path if known else self._path_for(policy.name, taken, expected, repair)
            new = policies[policy.name] = StoredPolicy(policy, path, _readable_text(policy))
            plan.write(path, new.text, known.text if known else None)
            self._reader.note(new.text, policy)
        for name in delete:
            known = policies.pop(name)
            plan.delete(known.path, known.text)
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
        return Change(self, tuple(plan.forward), tuple(plan.back), after, tuple(plan.kept))

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Carry out prepared steps as one change; raises ``OSError``."""
        if steps:
            carry_out(self._disk, self._directory, steps)

    def abandon(self) -> None:
        """Forget a change that could be neither made nor undone, as far as the disk lets us."""
        with suppress(OSError):
            abandon(self._disk, self._directory)

    def failure(self, error: OSError) -> StoreFailed:
        """The error for what the disk did not do."""
        where = error.filename or self._directory
        return StoreFailed(
            f"{str(where)!r} cannot be read or written: {error.strerror}",
            "look at the free space, the mount options and the owner of the directory",
        )

    def _sweep(self) -> None:
        """Delete what interrupted changes have left over, as far as it can be."""
        folders = (self._directory, self._directory / POLICIES)
        left_over = [file for folder in folders for file in folder.glob(f".*{TEMPORARY}")]
        links = (self._directory / POLICIES).glob(f"[!.]*{SUFFIX}")
        elsewhere = [temporary_of(file) for link in links if (file := followed(link)) != link]
        for file in (*left_over, *filter(os.path.lexists, elsewhere)):
            with suppress(OSError):
                self._disk.unlink(file)

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(self._directory / path)  # noqa: PTH112 - raises nothing

    def _content(self, path: str) -> bytes:
        return self._disk.read(self._directory / path, MAX_FILE_BYTES)

    def _path_for(self, name: str, taken: set[str], expected: Loaded, repair: bool) -> str:
        """The file of a policy that is stored for the first time, or replaces a broken file."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "policy"
        if repair:
            for file in expected.broken:
                unnamed = file.policy is None and file.path == f"{POLICIES}/{slug}{SUFFIX}"
                free = file.path not in taken and not self._is_folder(file.path)
                if free and (unnamed or file.policy == name):
                    return file.path
        number = 1
        while True:
            path = f"{POLICIES}/{slug}{f'-{number}' if number > 1 else ''}{SUFFIX}"
            if path not in taken and not os.path.lexists(self._directory / path):
                return path
            number += 1


class _Plan:
    """The steps of a change, each with the one that leads back, as they are found out."""

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
        self.kept: list[str] = []

    def write(self, path: str, text: str, expected: str | None) -> None:
        """Replace a file that was `expected` to hold this text, or not to be there (None)."""
        file = self._directory / path
        if self._is_as(file, expected):
            self.forward.append(Step(path, text=text))
            self.back.append(self._present(path, expected))
            return
        self._check_replaceable(path)
        if os.path.lexists(file):
            name = _free_name(followed(file))
            self.kept.append(str(followed(file).with_name(name)))
            self.forward.append(Step(path, text=text, kept=name))
            self.back.append(Step(path, moved=name))
        else:
            self.forward.append(Step(path, text=text))
            self.back.append(self._present(path, None))

    def delete(self, path: str, expected: str) -> None:
        """Delete a file that was `expected` to hold this text."""
        if not self._is_as(self._directory / path, expected):
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
            name = _free_name(self._directory / ASSIGNED)
            self.kept.append(str(self._directory / name))
            self.forward.append(Step(ASSIGNED, target=target, kept=name))
            self.back.append(Step(ASSIGNED, moved=name))
        else:
            self.forward.append(Step(ASSIGNED, target=target))
            self.back.append(Step(ASSIGNED, target=link))

    def _present(self, path: str, expected: str | None) -> Step:
        """The step that leads back to a file as it is now, which holds what was expected."""
        link, _ = read_link(self._directory / path)
        if expected is None and link:
            return Step(path, target=link)
        return Step(path, text=expected)

    def _is_as(self, file: Path, expected: str | None) -> bool:
        try:
            found = self._disk.read(file, MAX_FILE_BYTES)
        except FileNotFoundError:
            return expected is None
        except OSError:
            return False
        return expected is not None and found == expected.encode()

    def _check_replaceable(self, path: str) -> None:
        """Raise ``Refused`` if what is at `path` is somebody's good edit."""
        if not self._repair:
            raise self._edited(path)
        try:
            stored = parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, FileNotFoundError):
            return
        if not self._is_refused(stored):
            raise _edited_since(self._directory / path)

    def _edited(self, path: str) -> Refused:
        """The error for an edit, which tells how to go on from a good one or a bad one."""
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


def _free_name(file: Path) -> str:
    number = 1
    while os.path.lexists(file.with_name(f"{file.name}.broken-{number}")):
        number += 1
    return f"{file.name}.broken-{number}"


def _name_at(path: str | None, policies: dict[str, StoredPolicy]) -> str | None:
    return next((name for name, stored in policies.items() if stored.path == path), None)


def _edited_since(path: Path) -> Refused:
    return Refused(
        f"{str(path)!r} was edited since it was loaded", "run: ipsecctl reload, then try again"
    )
