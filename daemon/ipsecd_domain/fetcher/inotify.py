"""Owns news of a directory from the kernel (inotify(7)); must not know what is in its files."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from typing import Self

IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
# sys/inotify.h
_CHANGES = (
    IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)
_EVENT = struct.Struct("iIII")
_BYTES = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_init1.restype = ctypes.c_int
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_add_watch.restype = ctypes.c_int


class Inotify:
    """Watches on directories; raises ``OSError`` where the kernel gives no more of them."""

    def __init__(self) -> None:
        descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._descriptor = descriptor
        self._names: dict[int, frozenset[bytes] | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def watch(self, directory: Path, names: frozenset[bytes] | None = None) -> None:
        """Hear of changes in a directory, or of those that concern `names` in it only.

        A second time for the same directory changes nothing; raises ``OSError`` if it is not there.
        """
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _CHANGES)
        if watch < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
        self._names[watch] = names

    def wait(self, timeout_s: float | None) -> bool:
        """Whether something changed before the time is over; takes all events there are."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            return False
        changed = False
        try:
            while data := os.read(self._descriptor, _BYTES):
                changed |= self._concern(data)
        except BlockingIOError:
            pass
        return changed

    def _concern(self, data: bytes) -> bool:
        concern, offset = False, 0
        while offset < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, offset)
            start = offset + _EVENT.size
            name = data[start : start + length].rstrip(b"\0")
            offset = start + length
            names = self._names.get(watch)
            # Without a name it is the directory itself, or the queue was too long.
            concern |= names is None or not name or name in names
        return concern
