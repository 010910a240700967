"""Owns every effect on the disk, each as one method, so that tests can fail or crash at any."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

TEMPORARY = ".tmp"
"""The end of the names of files that are being written; leftovers may be deleted."""

CHUNK = 1 << 20

MAX_OWN_FILE_BYTES = 1 << 30
"""How long a file that the daemon writes for itself may be, whatever it holds."""


class Disk:
    """The disk. Each method is one effect, and says if it is durable or atomic.

    All raise ``OSError``.
    """

    def read(self, path: Path, max_bytes: int) -> bytes:
        """The content of a regular file. Others are refused: they may block or never end."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(path))
            pieces = []
            unread = max_bytes + 1
            while unread and (piece := os.read(descriptor, min(unread, CHUNK))):
                pieces.append(piece)
                unread -= len(piece)
        finally:
            os.close(descriptor)
        if not unread:
            raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))
        return b"".join(pieces)

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        """Write a file that nobody reads yet, and wait until its content is on disk.

        It gets the owner and the mode of the file `like`. What lay at `path` is not written into:
        it may be a link that somebody has made there.
        """
        path.unlink(missing_ok=True)
        _write(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, content, sync=True, like=like)

    def write_for_this_boot(self, path: Path, content: bytes) -> None:
        """Write a file that nobody reads yet, and that a reboot may forget."""
        _write(path, os.O_CREAT | os.O_TRUNC, content)

    def append(self, path: Path, content: bytes) -> None:
        """Add to the end of an existing file. It need not survive a crash of the host."""
        _write(path, os.O_APPEND | os.O_NOFOLLOW, content)

    def append_durably(self, path: Path, content: bytes) -> None:
        """Add to the end of an existing file, and wait until that is on disk."""
        _write(path, os.O_APPEND | os.O_NOFOLLOW, content, sync=True)

    def link(self, path: Path, target: str) -> None:
        """Make a symbolic link that nobody reads yet."""
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    def keep(self, path: Path, name: Path) -> None:
        """Give a file a second name: it stays there when another file takes the first name."""
        os.link(path, name, follow_symlinks=False)

    def rename(self, old: Path, new: Path) -> None:
        """Rename a file, atomically; it replaces the file of the new name."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Delete a file; it is no error if there is none."""
        path.unlink(missing_ok=True)

    def sync_directory(self, path: Path) -> None:
        """Wait until renames and deletions in a directory are on disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(disk: Disk, path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace one file atomically. If it is not `durable`, a crash of the host may lose it."""
    temporary = temporary_of(path)
    try:
        if durable:
            disk.write(temporary, content)
        else:
            disk.write_for_this_boot(temporary, content)
        disk.rename(temporary, path)
        if durable:
            disk.sync_directory(path.parent)
    except OSError:
        # The unfinished file takes up space, which may be what was short.
        with suppress(OSError):
            disk.unlink(temporary)
        raise


def keep_or_copy(disk: Disk, path: Path, name: Path, max_bytes: int) -> None:
    """Have what a file holds stay under another name; raises ``OSError``.

    The name is not on disk before its directory is synced.
    """
    try:
        disk.keep(path, name)
    except OSError:
        # Some file systems have no hard links, and some files may not be linked.
        disk.write(name, disk.read(path, max_bytes), path)


def _write(
    path: Path,
    flags: int,
    content: bytes,
    *,
    sync: bool = False,
    like: Path | None = None,
) -> None:
    # What only some may read nobody else reads before it has the mode of what it replaces.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600 if like else 0o644)
    try:
        if like:
            _take_owner_and_mode(descriptor, like)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_owner_and_mode(descriptor: int, like: Path) -> None:
    """Give an open file the owner and the mode of another; raises ``OSError``."""
    own, wanted = os.fstat(descriptor), like.stat()
    if (own.st_uid, own.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        except PermissionError as error:
            reason = f"its owner {wanted.st_uid}:{wanted.st_gid} cannot be kept: {error.strerror}"
            raise OSError(errno.EPERM, reason, str(like)) from error
    os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))


def temporary_of(path: Path) -> Path:
    """The name of a file while it is being written."""
    return path.with_name(f".{path.name}{TEMPORARY}")
