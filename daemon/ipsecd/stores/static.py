"""Owns the static store: policy files that people edit, and the link to the assigned one.

Invariants:

1. A change to any number of files is one change: after a crash it has happened or it has not.
2. What was edited by hand since it was loaded is never overwritten.
3. A file that cannot be used is reported, and is in nobody's way.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from ipsecd.errors import InvalidInput, IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.model.values import Policy
from ipsecd.stores.files import TEMPORARY, Disk
from ipsecd.stores.steps import NotBegun, Step, abandon, carry_out, is_interrupted, recover

POLICIES = "policies"
ASSIGNED = "assigned"
SUFFIX = ".yaml"
MAX_FILE_BYTES = 16 << 20


class Keep(Enum):
    """Says that whichever policy is assigned stays so."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy with the file it is in; ``path`` is relative to the store's directory."""

    policy: Policy
    path: str
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A policy file that cannot be used, and why."""

    path: str
    error: IpsecdError


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the store held when it was read.

    ``link`` is the target of the assigned link, None without one; ``assigned`` is the policy it
    leads to. ``assigned_error`` says why it leads to none.
    """

    policies: Mapping[str, StoredPolicy] = field(default_factory=dict)
    broken: tuple[BrokenFile, ...] = ()
    link: str | None = None
    assigned: str | None = None
    assigned_error: IpsecdError | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was prepared: its steps, those that lead back, and what is stored after it."""

    store: StaticStore
    forward: tuple[Step, ...]
    back: tuple[Step, ...]
    after: Loaded

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

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self._directory = directory
        self._disk = disk or Disk()

    def path(self, stored: StoredPolicy) -> Path:
        """Where a policy's file is."""
        return self._directory / stored.path

    def load(self) -> Loaded:
        """Read everything; finishes a change that a crash interrupted. Raises ``StoreFailed``."""
        try:
            (self._directory / POLICIES).mkdir(parents=True, exist_ok=True)
            recover(self._disk, self._directory)
            for folder in (self._directory, self._directory / POLICIES):
                for left_over in folder.glob(f".*{TEMPORARY}"):
                    self._disk.unlink(left_over)
            return self._read()
        except OSError as error:
            raise self.failure(error) from error

    def look(self) -> Loaded:
        """Read everything and write nothing; raises ``StoreFailed`` if a change has to be finished.

        For a file system that may not be writable yet.
        """
        try:
            if is_interrupted(self._directory):
                raise StoreFailed(
                    f"a change to {str(self._directory)!r} was interrupted",
                    "the daemon finishes it when it starts",
                )
            return self._read()
        except OSError as error:
            raise self.failure(error) from error

    def change(
        self,
        expected: Loaded,
        *,
        put: Sequence[Policy] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
    ) -> Change:
        """Prepare a change to what was `expected`; nothing is written yet.

        Raises ``Refused`` if a file it concerns, or the assigned link, was edited since.
        """
        forward: list[Step] = []
        back: list[Step] = []
        policies = dict(expected.policies)
        for policy in put:
            known = expected.policies.get(policy.name)
            taken = {stored.path for stored in policies.values()}
            path = known.path if known else self._new_path(policy.name, taken)
            new = policies[policy.name] = StoredPolicy(policy, path, format_policy(policy))
            self._must_be(path, known.text if known else None)
            forward.append(Step(path, text=new.text))
            back.append(Step(path, text=known.text if known else None))
        for name in delete:
            known = policies.pop(name)
            self._must_be(known.path, known.text)
            forward.append(Step(known.path))
            back.append(Step(known.path, text=known.text))
        if assign is not KEEP:
            target = policies[assign].path if isinstance(assign, str) else None
            if self._link() != expected.link:
                raise _edited(self._directory / ASSIGNED)
            forward.append(Step(ASSIGNED, target=target))
            back.append(Step(ASSIGNED, target=expected.link))
            assigned = assign if isinstance(assign, str) else None
            after = replace(
                expected, policies=policies, link=target, assigned=assigned, assigned_error=None
            )
        else:
            after = replace(expected, policies=policies)
        return Change(self, tuple(forward), tuple(back), after)

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

    def _read(self) -> Loaded:
        policies: dict[str, StoredPolicy] = {}
        broken: list[BrokenFile] = []
        for file in sorted((self._directory / POLICIES).glob(f"[!.]*{SUFFIX}")):
            path = f"{POLICIES}/{file.name}"
            try:
                text = _read_text(file)
                policy = parse_policy(text, str(file))
                if policy.name in policies:
                    raise InvalidInput(
                        f"policy {policy.name!r} is also in {policies[policy.name].path!r}",
                        "give it a name of its own, or delete one of the files",
                        source=str(file),
                    )
                policies[policy.name] = StoredPolicy(policy, path, text)
            except IpsecdError as error:
                broken.append(BrokenFile(path, error))
        link = self._link()
        assigned, error_of_link = self._assigned(link, policies, broken)
        return Loaded(policies, tuple(broken), link, assigned, error_of_link)

    def _assigned(
        self, link: str | None, policies: Mapping[str, StoredPolicy], broken: Sequence[BrokenFile]
    ) -> tuple[str | None, IpsecdError | None]:
        if link is None:
            path = self._directory / ASSIGNED
            if not os.path.lexists(path):
                return None, None
            return None, InvalidInput(
                f"{str(path)!r} is not a symbolic link",
                f"make it one, to a file in {POLICIES}/, or delete it and run: ipsecctl policy "
                "assign NAME",
            )
        target = self._leads_to(link)
        for name, stored in policies.items():
            if stored.path == target:
                return name, None
        for file in broken:
            if file.path == target:
                return None, file.error
        return None, NotFound(
            f"{str(self._directory / ASSIGNED)!r} leads to {link!r}, which is no policy file",
            f"let it lead to a file in {POLICIES}/, or run: ipsecctl policy assign NAME",
        )

    def _link(self) -> str | None:
        path = self._directory / ASSIGNED
        return str(path.readlink()) if path.is_symlink() else None

    def _leads_to(self, link: str) -> str:
        """The target of the link as stored policies have their paths, if it is one of them."""
        target = os.path.normpath(self._directory / link)
        return os.path.relpath(target, os.path.normpath(self._directory))

    def _must_be(self, path: str, text: str | None) -> None:
        file = self._directory / path
        try:
            found = file.read_bytes() if file.exists() else None
        except OSError:
            raise _edited(file) from None
        if found != (None if text is None else text.encode()):
            raise _edited(file)

    def _new_path(self, name: str, taken: set[str]) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "policy"
        number = 1
        while True:
            path = f"{POLICIES}/{slug}{f'-{number}' if number > 1 else ''}{SUFFIX}"
            if path not in taken and not (self._directory / path).exists():
                return path
            number += 1


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise InvalidInput(f"{str(file)!r} is not a regular file", "move it elsewhere")
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidInput(
            f"{str(file)!r} is larger than {MAX_FILE_BYTES >> 20} MiB", "split the policy"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{str(file)!r} is not UTF-8 text: {error.reason} at byte {error.start}",
            "save it as UTF-8",
            source=str(file),
            line=content.count(b"\n", 0, error.start) + 1,
        ) from error


def _edited(path: Path) -> Refused:
    return Refused(
        f"{str(path)!r} was edited since it was loaded", "run: ipsecctl reload, then try again"
    )
