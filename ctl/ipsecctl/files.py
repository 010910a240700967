"""Owns the reading and replacing of users' files; must not know what is in them."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable

from ipsecd.errors import IpsecdError
from ipsecd.quoting import quote_path


def read_bytes(path: str) -> bytes:
    """The content of the file at `path`, or of standard input for ``-``."""
    try:
        if path == "-":
            if sys.stdin is None:
                raise OSError(errno.EBADF, "it is closed")  # noqa: TRY301 - as any other failure
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes 8 ms to import
            return file.read()
    except OSError as error:
        raise file_error("read", path, error) from error


def open_document(path: str) -> int:
    """A descriptor of the document at `path`, at its start; ``-`` is standard input.

    Anything but a regular file is copied into memory first: the daemon must not wait for somebody
    who writes into a pipe.
    """
    if path == "-":
        return _copied(read_bytes(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        with os.fdopen(descriptor, "rb") as pipe:
            return _copied(pipe.read())
    except OSError as error:
        raise file_error("read", path, error) from error


def _copied(content: bytes) -> int:
    """A descriptor of a file in memory that holds `content`, at its start."""
    descriptor = os.memfd_create("document")
    with os.fdopen(os.dup(descriptor), "wb") as copy:
        copy.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def list_files(directory: str) -> list[str]:
    """The names of the address lists in `directory`: its regular files that are not hidden."""
    try:
        with os.scandir(directory) as entries:
            return sorted(e.name for e in entries if e.is_file() and not e.name.startswith("."))
    except OSError as error:
        raise file_error("read", directory, error) from error


def lines_of(text: str) -> Iterable[str]:
    """`text` as the only line, or for ``-`` the lines of standard input as they come."""
    if text != "-":
        return [text]
    return sys.stdin if sys.stdin is not None else []


def replace_text(path: str, text: str) -> None:
    """Put `text` in the place of what is in the file at `path`, all or nothing.

    The file keeps its mode, and a symlink stays a symlink.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as above
    except OSError as error:
        raise file_error("write", path, error) from error
    _replace(path, text.encode(), mode & 0o7777)


def write_private(path: str, content: bytes) -> None:
    """Have a file hold `content`, all or nothing; one that is new is for its owner alone."""
    try:
        mode = os.stat(path).st_mode & 0o7777  # noqa: PTH116 - as above
    except OSError:
        mode = 0o600
    _replace(path, content, mode)


def _replace(path: str, content: bytes, mode: int) -> None:
    target = os.path.realpath(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=os.path.dirname(target))  # noqa: PTH120
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, target)  # noqa: PTH105
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):  # noqa: PTH110
            os.unlink(temporary)  # noqa: PTH108
        raise file_error("write", path, error) from error


def file_error(doing: str, path: str, error: OSError) -> IpsecdError:
    """What kept us from reading or writing the file at `path`."""
    return IpsecdError(
        f"cannot {doing} {quote_path(path)}: {error.strerror or error}",
        "check the path and who may use it",
    )
