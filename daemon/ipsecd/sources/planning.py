"""Owns the steps of a change of policy files, each with the step that undoes it; writes nothing.

What somebody has edited since it was loaded is replaced only if a reload has read it, or could not
read it, and it is not in force all the same: it has a name of its own beside the file then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ipsecd.errors import IpsecdError, Refused
from ipsecd.model.values import Policy
from ipsecd.sources.files import Disk
from ipsecd.sources.links import UnsafeLink, place_to_write
from ipsecd.sources.reading import (
    ASSIGNED,
    MAX_FILE_BYTES,
    SHARED,
    Loaded,
    parse_file,
    path_of_link,
    read_link,
)
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.steps import BROKEN, Step, file_behind_links, free_name

EDITED = "edited"
"""What the names of good files that are kept say of them."""


class Over(Enum):
    """What a change may write over, besides what was loaded; a copy of it is kept."""

    NOTHING = "nothing"
    UNUSABLE = "unusable"
    """What cannot be used, and what a reload has read and could not put in force."""
    ANYTHING = "anything"


@dataclass(frozen=True, slots=True)
class Written:
    """A policy that is to be stored as somebody wrote it, byte by byte.

    ``path`` is its file, where that may be no other. With ``base`` the file has to hold just that.
    ``is_laid_anew`` says that comments and layout of what its file held are lost.
    """

    policy: Policy
    text: str
    path: str | None = None
    base: str | None = None
    over: Over = Over.UNUSABLE
    is_laid_anew: bool = False


class Plan:
    """Collects the steps of a change."""

    def __init__(
        self, directory: Path, disk: Disk, reader: PolicyReader, refused: Loaded | None
    ) -> None:
        """`refused` is what the last reload has read, if it was refused."""
        self._directory = directory
        self._disk = disk
        self._reader = reader
        policies = refused.policies.values() if refused else ()
        self._refused = {stored.path: stored for stored in policies}
        self._known_links = {refused.link} if refused else set()
        self.forward: list[Step] = []
        self.back: list[Step] = []
        self.kept_copies: list[str] = []

    def write(self, path: str, text: str, expected: str | None, over: Over) -> None:
        """Write a file that should hold the text `expected`, or not exist if that is None."""
        file = self._directory / path
        must_be_followed(file)
        if self._holds(file, expected):
            self.forward.append(Step(path, text=text))
            self.back.append(self._restoring_step(path, expected))
            return
        why = self._why_replaced(path, over)
        if os.path.lexists(file):
            name = free_name(file_behind_links(file), why)
            self.kept_copies.append(str(file_behind_links(file).with_name(name)))
            self.forward.append(Step(path, text=text, kept=name))
            self.back.append(Step(path, moved=name))
        else:
            self.forward.append(Step(path, text=text))
            self.back.append(self._restoring_step(path, None))

    def write_shared(self, text: str, expected: Loaded) -> None:
        """Write the file of shared filters; raises ``Refused`` if somebody has edited it."""
        file = self._directory / SHARED
        if error := expected.shared_error:
            raise Refused(
                f"the shared filters cannot be used: {error.message}",
                "mend the file and run: ipsecctl reload; or move it away, and begin without any",
            )
        must_be_followed(file)
        loaded = expected.shared.text if expected.shared else None
        if not self._holds(file, loaded):
            raise _edited_since(file)
        self.forward.append(Step(SHARED, text=text))
        self.back.append(self._restoring_step(SHARED, loaded))

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
        is_known = link == expected.link or link in self._known_links
        if not is_known and not error and self._is_good(link):
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

    def _why_replaced(self, path: str, over: Over) -> str:
        """What is to be said of the file at `path`, which somebody has edited, in its copy's name.

        Raises ``Refused`` if it may not be replaced.
        """
        if over is Over.NOTHING:
            raise self._edited(path)
        try:
            stored = parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, FileNotFoundError):
            return BROKEN
        if self._refused.get(path) == stored:
            return BROKEN
        if over is not Over.ANYTHING:
            raise _edited_since(self._directory / path)
        return EDITED

    def _edited(self, path: str) -> Refused:
        """The error for an edited file, with a hint for a good edit or for a bad one."""
        try:
            stored = parse_file(self._disk, self._directory, path, self._reader)
        except (IpsecdError, FileNotFoundError) as error:
            reason = error.message if isinstance(error, IpsecdError) else "it is not there"
            return Refused(
                f"{str(self._directory / path)!r} was edited since it was loaded, and cannot be "
                f"used: {reason}",
                "mend it and run: ipsecctl reload; or replace it, which keeps it beside, with: "
                "ipsecctl apply FILE",
            )
        if self._refused.get(path) == stored:
            return Refused(
                f"{str(self._directory / path)!r} was edited, and the last reload was refused",
                "ipsecctl reload says why; or replace it, which keeps it beside, with: "
                "ipsecctl apply FILE, or ipsecctl policy restore POLICY",
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


def must_be_followed(file: Path) -> None:
    """Raise ``Refused`` if `file` is a link that nothing is written through."""
    try:
        place_to_write(file)
    except UnsafeLink as error:
        raise Refused(
            f"{str(file)!r} cannot be written through: {error.strerror}; nothing has changed",
            error.hint,
        ) from error


def _edited_since(path: Path) -> Refused:
    return Refused(
        f"{str(path)!r} was edited since it was loaded", "run: ipsecctl reload, then try again"
    )
