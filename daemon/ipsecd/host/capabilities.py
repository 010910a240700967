"""Owns giving up all capabilities for ever, those of root included (capabilities(7)).

User 0 gets capabilities again with every program that it executes, but none that it did not have
before once ``PR_SET_NO_NEW_PRIVS`` is set.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

from ipsecd.host.libc import last_error

# linux/prctl.h
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
# linux/capability.h
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_NONE = bytes(24)
"""Two words each of effective, permitted and inheritable ones."""
_LAST = Path("/proc/sys/kernel/cap_last_cap")
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.prctl.restype = ctypes.c_int
_libc.capset.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_libc.capset.restype = ctypes.c_int


def forbid_new_privileges() -> None:
    """Let no program that is executed from here on give more rights; raises ``OSError``."""
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise last_error()


def drop_all() -> None:
    """Have no capability any more, in any set; raises ``OSError``.

    The bounding set can be emptied only by who has ``CAP_SETPCAP``, and stays otherwise: without
    new privileges nothing comes of it.
    """
    for number in range(_count()):
        if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            break
    # The kernel may be older than ambient capabilities, and then there are none.
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if _libc.capset(_HEADER.pack(_VERSION_3, 0), _NONE):
        raise last_error()


def _count() -> int:
    """How many capabilities the kernel knows."""
    try:
        return int(_LAST.read_text(encoding="ascii")) + 1
    except (OSError, ValueError):
        return _MOST
