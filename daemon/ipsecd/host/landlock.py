"""Owns confining a process to some files, for ever, where the kernel can (landlock(7)).

Files that are open already stay usable. User 0 is confined like any other: to it belong the files
of the system, and the socket of the daemon obeys it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ipsecd.host.libc import last_error

# The numbers are the same on every architecture that has landlock.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
# linux/landlock.h
_ASK_VERSION = 1
_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE
_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each version knows; later ones know as many as the last."""
_NET_SINCE, _SCOPED_SINCE = 4, 6
_NET = 3
"""Binding and connecting TCP sockets."""
_SCOPED = 3
"""Abstract Unix sockets and signals of others."""
_TRUNCATE = 1 << 14
_RULESET = struct.Struct("=QQQ")
_RULE = struct.Struct("=Qi")
_ABSENT = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
"""The kernel has none of it, was started without it, or a filter of system calls is in between."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def confine(readable: Iterable[str], writable: Iterable[str], *, may_connect: bool = False) -> bool:
    """Allow reading below some paths and everything below others, and nothing else.

    With `may_connect` it is free to bind and connect TCP sockets. Whether the kernel can. Paths
    that do not exist are left out. Needs no new privileges to be forbidden before; raises
    ``OSError`` if it fails halfway.
    """
    version = _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 0:
        if ctypes.get_errno() in _ABSENT:
            return False
        raise last_error()
    every = (1 << _BITS[min(version, max(_BITS))]) - 1
    net = _NET if version >= _NET_SINCE and not may_connect else 0
    scoped = _SCOPED if version >= _SCOPED_SINCE else 0
    rules = _RULESET.pack(every, net, scoped)
    ruleset = _checked(_syscall(_CREATE_RULESET, rules, len(rules), 0))
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in writable:
            _allow(ruleset, path, every & ~_EXECUTE)
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, access: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        beneath = os.open(Path(path), os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(beneath).st_mode):
                access &= _OF_FILES | _TRUNCATE
            _checked(_syscall(_ADD_RULE, ruleset, _BENEATH, _RULE.pack(access, beneath), 0))
        finally:
            os.close(beneath)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """What a system call returns; each number is passed as wide as the kernel takes it."""
    words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    return result


def _checked(result: int) -> int:
    if result < 0:
        raise last_error()
    return result
