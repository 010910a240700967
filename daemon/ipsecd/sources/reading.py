"""Owns reading the policy files, each on its own; must not write.

A file that cannot be read or used concerns no other. Where two files hold policies of one name, the
assigned file counts, even if it is broken; or else the file that is called like the policy, or the
one that sorts first. The other is reported as a copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ipsecd.errors import InvalidInput, IpsecdError, NotFound
from ipsecd.language.documents import MAX_BYTES, parse_policy
from ipsecd.model.shared_filters import SharedFilters
from ipsecd.model.values import Policy, Store
from ipsecd.sources.files import Disk
from ipsecd.sources.remembered import PolicyReader, digest_of
from ipsecd.sources.steps import unusable

POLICIES = "policies"
ASSIGNED = "assigned"
SUFFIX = ".yaml"
SHARED = "shared-filters.yaml"
"""The file of the filter lists and filter actions that policies share."""
MAX_FILE_BYTES = MAX_BYTES
"""A file may be as long as any document."""
_NAME_LINE = re.compile(rb"^policy:[^\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class StoredPolicy:
    """A policy with the file it is in; ``path`` is relative to the directory of its ``store``."""

    # Comparing the texts is enough, and comparing policies takes long.
    policy: Policy = field(compare=False)
    path: str
    text: str
    store: Store = Store.STATIC

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return digest_of(self.text)


@dataclass(frozen=True)
class StoredShared:
    """The filter lists and actions that policies share, with the text of their file."""

    filters: SharedFilters = field(compare=False)
    text: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return digest_of(self.text)


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that cannot be used, and why; ``policy`` is the name in it, if that can be read.

    ``is_copy`` says that nothing is wrong with it, but that the policy is in another file, too.
    """

    path: str
    error: IpsecdError
    policy: str | None = None
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the store held when it was read.

    ``link`` is the target of the assigned link, None if there is no link. ``assigned_path`` is
    where it leads, relative to the store's directory like the paths of policies. ``assigned`` is
    the name of the policy there, and ``assigned_error`` says why there is none, or why it cannot
    be put in force. ``shared`` is None if there are no shared filters, or their file is ``broken``.
    """

    policies: Mapping[str, StoredPolicy] = field(default_factory=dict)
    broken: tuple[BrokenFile, ...] = ()
    link: str | None = None
    assigned_path: str | None = None
    assigned: str | None = None
    assigned_error: IpsecdError | None = None
    shared: StoredShared | None = None

    @property
    def texts(self) -> dict[str, str]:
        """What the files hold that can be used, by path."""
        texts = {stored.path: stored.text for stored in self.policies.values()}
        return {**texts, SHARED: self.shared.text} if self.shared else texts

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each of these files, by path."""
        digests = {stored.path: stored.digest for stored in self.policies.values()}
        return {**digests, SHARED: self.shared.digest} if self.shared else digests

    @property
    def shared_error(self) -> IpsecdError | None:
        """Why the file of shared filters cannot be used; None if it can, or is not there."""
        return next((file.error for file in self.broken if file.path == SHARED), None)

    def mended(self, paths: Iterable[str]) -> Loaded:
        """The same content after the broken files at `paths` were replaced by good ones."""
        written = frozenset(paths)
        broken = tuple(file for file in self.broken if file.path not in written)
        error = None if self.assigned_path in written else self.assigned_error
        return replace(self, broken=broken, assigned_error=error)

    def owner_of(self, file: BrokenFile, stand_in: str | None) -> str | None:
        """The name of the policy whose file this is, None if nobody knows.

        `stand_in` is the policy that is in force in the place of a broken assigned file.
        """
        return file.policy or (stand_in if file.path == self.assigned_path else None)

    def with_copies(self, directory: Path, earlier: Loaded) -> Loaded:
        """The same, where files that `earlier` counted are copies of those that count now."""
        copies = [
            copy_of(directory, stored, policy_file.path)
            for name, policy_file in self.policies.items()
            if (stored := earlier.policies.get(name)) and stored.path != policy_file.path
        ]
        if not copies:
            return self
        return replace(self, broken=_sorted([*self.broken, *copies]))


def slug_of(name: str) -> str:
    """What the file of a policy of this name is called, without its suffix."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "policy"


def copy_of(directory: Path, stored: StoredPolicy, path: str) -> BrokenFile:
    """What is said of a file whose policy is also in the file at `path`, which counts."""
    file = directory / stored.path
    name = stored.policy.name
    error = InvalidInput(
        f"{str(file)!r} is not used: policy {name!r} is also in {path!r}",
        "give it a name of its own, or delete one of the files",
        source=str(file),
    )
    return BrokenFile(stored.path, error, name, is_copy=True)


def read_store(disk: Disk, directory: Path, reader: PolicyReader) -> Loaded:
    """Read the files in `directory`; raises ``OSError`` if they cannot be listed."""
    link, link_error = read_link(directory / ASSIGNED)
    path = path_of_link(directory, link)
    policies: dict[str, StoredPolicy] = {}
    broken = [
        BrokenFile(
            name,
            InvalidInput(
                f"a change was interrupted, and {str(directory / name)!r} cannot finish it: "
                f"{reason}",
                "look at the policy files, delete it, and run: ipsecctl reload",
            ),
        )
        for name, reason in unusable(disk, directory).items()
    ]
    names = sorted(
        file.name
        for file in (directory / POLICIES).iterdir()
        if file.name.endswith(SUFFIX) and not file.name.startswith(".")
    )
    usable = []
    owners: dict[str, str] = {}
    for name in names:
        stored = _read_file(disk, directory, f"{POLICIES}/{name}", reader)
        if isinstance(stored, BrokenFile):
            broken.append(stored)
            if stored.path == path and stored.policy:
                owners[stored.policy] = stored.path
        elif stored is not None:
            usable.append(stored)
    for stored in sorted(usable, key=lambda stored: (stored.path != path, not _is_own(stored))):
        owner = owners.setdefault(stored.policy.name, stored.path)
        if owner == stored.path:
            policies[stored.policy.name] = stored
        else:
            broken.append(copy_of(directory, stored, owner))
    shared = _read_shared(disk, directory, reader)
    if isinstance(shared, BrokenFile):
        broken.append(shared)
        shared = None
    assigned, error = _assigned(directory, link, path, policies, broken)
    return Loaded(policies, _sorted(broken), link, path, assigned, link_error or error, shared)


def stored_shared(directory: Path, text: str, reader: PolicyReader) -> StoredShared | BrokenFile:
    """The shared filters in the text of their file, or why they cannot be used."""
    try:
        return StoredShared(reader.read_shared(text, str(directory / SHARED)), text)
    except IpsecdError as error:
        return BrokenFile(SHARED, error)


def _read_shared(
    disk: Disk, directory: Path, reader: PolicyReader
) -> StoredShared | BrokenFile | None:
    """The shared filters; None if there is no file."""
    file = directory / SHARED
    try:
        return stored_shared(directory, _text(file, _content(disk, file)), reader)
    except FileNotFoundError:
        return _leads_nowhere(SHARED, file) if file.is_symlink() else None
    except IpsecdError as error:
        return BrokenFile(SHARED, error)


def _leads_nowhere(path: str, file: Path) -> BrokenFile:
    hint = "mend the link, or delete it"
    return BrokenFile(path, InvalidInput(f"{str(file)!r} is a link that leads nowhere", hint))


def _is_own(stored: StoredPolicy) -> bool:
    """Whether the file is called like its policy."""
    return stored.path == f"{POLICIES}/{slug_of(stored.policy.name)}{SUFFIX}"


def _sorted(broken: Iterable[BrokenFile]) -> tuple[BrokenFile, ...]:
    return tuple(sorted(broken, key=lambda file: file.path))


def read_link(path: Path) -> tuple[str | None, IpsecdError | None]:
    """Where the assigned link leads, None if there is no link; and the error if it is no link."""
    try:
        return str(path.readlink()), None
    except FileNotFoundError:
        return None, None
    except OSError:
        return None, InvalidInput(
            f"{str(path)!r} is not a symbolic link",
            f"make it one, to a file in {POLICIES}/, or delete it and run: ipsecctl policy "
            "assign NAME",
        )


def path_of_link(directory: Path, link: str | None) -> str | None:
    """Where the assigned link leads, relative to the store's directory like paths of policies."""
    if link is None:
        return None
    target = os.path.normpath(directory / link)
    return os.path.relpath(target, os.path.normpath(directory))


def parse_file(disk: Disk, directory: Path, path: str, reader: PolicyReader) -> StoredPolicy:
    """The policy in a file; raises ``InvalidInput``, or ``FileNotFoundError`` if there is none."""
    file = directory / path
    if not _is_text(path):
        raise InvalidInput(f"{str(file)!r} has a name that is not UTF-8", "rename it")
    text = _text(file, _content(disk, file))
    return StoredPolicy(reader.read(text, str(file)), path, text)


def _read_file(
    disk: Disk, directory: Path, path: str, reader: PolicyReader
) -> StoredPolicy | BrokenFile | None:
    """What is in one file; None if it was deleted since it was listed."""
    file = directory / path
    try:
        return parse_file(disk, directory, path, reader)
    except FileNotFoundError:
        return _leads_nowhere(path, file) if file.is_symlink() else None
    except IpsecdError as error:
        return BrokenFile(path, error, _name_in(disk, file) if _is_text(path) else None)


def _is_text(path: str) -> bool:
    """Whether a path is text, so that a journal can hold it: to the kernel, names are bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _content(disk: Disk, file: Path) -> bytes:
    try:
        return disk.read(file, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidInput(
            f"{str(file)!r} cannot be read: {error.strerror}",
            "look at its size, its owner and mode and where it leads, or move it elsewhere",
        ) from error


def _text(file: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{str(file)!r} is not UTF-8 text: {error.reason} at byte {error.start}",
            "save it as UTF-8",
            source=str(file),
            line=content.count(b"\n", 0, error.start) + 1,
        ) from error


def _name_in(disk: Disk, file: Path) -> str | None:
    """The name of the policy in a broken file, if the line with it can be read."""
    try:
        line = _NAME_LINE.search(disk.read(file, MAX_FILE_BYTES))
        return parse_policy(line.group()).name if line else None
    except (OSError, IpsecdError):
        return None


def _assigned(
    directory: Path,
    link: str | None,
    path: str | None,
    policies: Mapping[str, StoredPolicy],
    broken: Sequence[BrokenFile],
) -> tuple[str | None, IpsecdError | None]:
    if link is None:
        return None, None
    for name, stored in policies.items():
        if stored.path == path:
            return name, None
    for file in broken:
        if file.path == path:
            return None, file.error
    return None, NotFound(
        f"{str(directory / ASSIGNED)!r} leads to {link!r}, which is no policy file",
        f"let it lead to a file in {POLICIES}/, or run: ipsecctl policy assign NAME",
    )
