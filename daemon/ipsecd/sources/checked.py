"""Owns the form of files that the daemon writes for itself: a header, and the content below it.

The header is a line ``ipsecd KIND VERSION SHA256``. Older files have the checksum alone, and
content of version 1. A file that holds anything else is refused, and the error names the file and
the reason. Its content counts as missing then; no other file is concerned.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ipsecd.errors import IpsecdError, LimitExceeded, StoreFailed
from ipsecd.sources.files import Disk, replace_file

_HEADER = re.compile(rb"ipsecd ([a-z-]{1,32}) ([0-9]{1,9}) ([0-9a-f]{64})")
_CHECKSUM_ALONE = re.compile(rb"[0-9a-f]{64}")
_HEADER_BYTES = 128
MAX_REASON = 300
"""How many characters of a reason are shown: it may quote content of any length."""

Content = TypeVar("Content")


def seal(kind: str, version: int, content: bytes) -> bytes:
    """`content` with its header in front."""
    checksum = hashlib.sha256(content).hexdigest()
    return f"ipsecd {kind} {version} {checksum}\n".encode() + content


def unseal(kind: str, version: int, sealed: bytes, earlier: Collection[int] = ()) -> bytes:
    """The content that was sealed, in this version or one of the `earlier` ones.

    Raises ``ValueError`` with the reason for anything else.
    """
    end = sealed.find(b"\n", 0, _HEADER_BYTES)
    line = sealed[: max(end, 0)]
    if header := _HEADER.fullmatch(line):
        kind_in_file, number, checksum = header.groups()
        if kind_in_file.decode() != kind:
            raise ValueError(f"it holds {kind_in_file.decode()!r}, where {kind!r} belongs")
        if int(number) not in (version, *earlier):
            raise ValueError(
                f"another version of ipsecd wrote it: its form is {int(number)}, and this version "
                f"reads {version}"
            )
    elif _CHECKSUM_ALONE.fullmatch(line):
        checksum = line
    else:
        raise ValueError("it does not begin with a header that ipsecd writes")
    content = sealed[end + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError("it is damaged: its checksum is another's")
    return content


@dataclass(frozen=True, slots=True)
class Form:
    """What a file holds: its kind and version, how large it may be, what to do if it is unusable.

    A file that is not ``durable`` is for this boot only: writing it does not wait for the disk.
    ``earlier`` are older versions that are read too.
    """

    kind: str
    version: int
    max_bytes: int
    remedy: str
    durable: bool = True
    earlier: tuple[int, ...] = ()


class CheckedFile:
    """A file in a checked form, replaced as a whole."""

    def __init__(self, path: Path, form: Form, disk: Disk | None = None) -> None:
        self._path = path
        self._form = form
        self._disk = disk or Disk()

    def check(self, content: bytes) -> None:
        """Raise ``LimitExceeded`` if `content` could not be read again."""
        if len(content) + _HEADER_BYTES > self._form.max_bytes:
            raise LimitExceeded(
                f"{str(self._path)!r} would be {len(content):,} bytes long, and at most "
                f"{self._form.max_bytes:,} can be read again",
                "use fewer or shorter filters; nothing has changed",
            )

    def save(self, content: bytes) -> None:
        """Replace the content. If the form is durable, it is on disk when this returns.

        Raises ``StoreFailed``, or ``LimitExceeded`` for content that could not be read again.
        """
        self.check(content)
        try:
            self._make_directory()
            sealed = seal(self._form.kind, self._form.version, content)
            replace_file(self._disk, self._path, sealed, durable=self._form.durable)
        except OSError as error:
            raise StoreFailed(
                f"{str(self._path)!r} cannot be written: {error.strerror}",
                "look at the free space, the mount options and the owner of the directory",
            ) from error

    def _make_directory(self) -> None:
        directory = self._path.parent
        if directory.is_dir():
            return
        missing = [path for path in (directory, *directory.parents) if not path.is_dir()]
        directory.mkdir(parents=True, exist_ok=True)
        if self._form.durable:
            # What is in a directory is on disk only if the directory's own name is (fsync(2)).
            for made in reversed(missing):
                self._disk.sync_directory(made.parent)

    def load(self, parse: Callable[[bytes], Content]) -> Content | None:
        """What `parse` makes of the content; None if there is no file.

        `parse` may raise ``ValueError`` or ``IpsecdError``. Raises ``StoreFailed``, with what to
        do, for a file that cannot be used.
        """
        try:
            sealed = self._disk.read(self._path, self._form.max_bytes)
            form = self._form
            return parse(unseal(form.kind, form.version, sealed, form.earlier))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, IpsecdError) as error:
            raise StoreFailed(
                f"{str(self._path)!r} cannot be used: {_reason(error)}", self._form.remedy
            ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, IpsecdError):
        text = error.message
    else:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
