"""Owns waiting for packets that are still on their way through rules that were replaced."""

from __future__ import annotations

import ctypes
import platform
import time

_MEMBARRIER_SYSCALLS = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_MEMBARRIER_GLOBAL = 1


def wait_for_packets() -> None:
    """Return when every packet that was on its way through the rules has left them.

    membarrier(2) with MEMBARRIER_CMD_GLOBAL waits for one RCU grace period. Where a sandbox
    forbids the call, or its number is not known, it waits a twentieth of a second, which is far
    longer than any packet takes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_int]
    libc.syscall.restype = ctypes.c_long
    number = _MEMBARRIER_SYSCALLS.get(platform.machine())
    if number is None or libc.syscall(number, _MEMBARRIER_GLOBAL, 0, 0) != 0:
        time.sleep(0.05)
