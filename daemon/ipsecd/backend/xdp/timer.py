"""Owns a timer as a descriptor: timerfd_create(2), which Python has from 3.13 on."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_NS = 1_000_000_000


class _Setting(ctypes.Structure):
    """``struct itimerspec``: the interval, then the first time; seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.timerfd_settime.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.POINTER(_Setting),
        ctypes.c_void_p,
    )
    return libc


class Timer:
    """A descriptor that is readable again and again while the timer runs."""

    def __init__(self) -> None:
        """The timer stands still; raises ``OSError``."""
        self._descriptor: int = _libc().timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def run(self, interval_ns: int) -> None:
        """Be readable every `interval_ns` nanoseconds; 0 ends it."""
        seconds, rest = divmod(interval_ns, _NS)
        setting = _Setting(seconds, rest, seconds, rest)
        _libc().timerfd_settime(self._descriptor, 0, ctypes.byref(setting), None)

    def drain(self) -> int:
        """How many intervals have ended since the last call; never blocks."""
        with suppress(BlockingIOError):
            return int.from_bytes(os.read(self._descriptor, 8), sys.byteorder)
        return 0

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)
