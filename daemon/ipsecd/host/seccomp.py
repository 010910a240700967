"""Owns closing system calls for ever to a process that only reads and writes (seccomp(2)).

What is closed reaches others: sockets, signals, memory of other processes, programs, BPF. On
architectures that are not listed, and for programs of 32 bits, nothing is closed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

# linux/prctl.h, linux/seccomp.h
PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
# linux/bpf_common.h: load a word, compare it with a number, return a number.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
"""Where ``struct seccomp_data`` has the system call, and whose numbers it is of."""
_X32 = 0x40000000
"""From here on x86 has other numbers for the same calls."""
_LINE = struct.Struct("=HBBI")


@dataclass(frozen=True)
class Architecture:
    """Its number in linux/audit.h, and which calls are closed, by their numbers in asm/unistd.h."""

    audit: int
    closed: Mapping[str, int]


_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "clone3": 435,
    "pidfd_getfd": 438,
}
ARCHITECTURES = {
    "x86_64": Architecture(
        0xC000003E,
        {
            "socket": 41,
            "connect": 42,
            "socketpair": 53,
            "clone": 56,
            "fork": 57,
            "vfork": 58,
            "execve": 59,
            "execveat": 322,
            "kill": 62,
            "tkill": 200,
            "tgkill": 234,
            "rt_sigqueueinfo": 129,
            "rt_tgsigqueueinfo": 297,
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "perf_event_open": 298,
            "bpf": 321,
            **_EVERYWHERE,
        },
    ),
    "aarch64": Architecture(
        0xC00000B7,
        {
            "socket": 198,
            "connect": 203,
            "socketpair": 199,
            "clone": 220,
            "execve": 221,
            "execveat": 281,
            "kill": 129,
            "tkill": 130,
            "tgkill": 131,
            "rt_sigqueueinfo": 138,
            "rt_tgsigqueueinfo": 240,
            "ptrace": 117,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "perf_event_open": 241,
            "bpf": 280,
            **_EVERYWHERE,
        },
    ),
}


class _Program(ctypes.Structure):
    """``struct sock_fprog``: how many lines a filter has, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.POINTER(_Program))
_libc.prctl.restype = ctypes.c_int


def close_what_reaches_others() -> bool:
    """Let these calls fail with EPERM from here on; whether kernel and architecture can.

    Needs no new privileges to be forbidden before; raises ``OSError``.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    # Programs of 32 bits on such a kernel have other numbers, and the kernel's name is the same.
    if architecture is None or sys.maxsize < 1 << 32:
        return False
    lines = _lines(architecture)
    program = _Program(len(lines) // _LINE.size, lines)
    if _libc.prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)):
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            return False
        raise OSError(number, os.strerror(number))
    return True


def _lines(architecture: Architecture) -> bytes:
    """The filter; a jump goes over as many lines as it says where the comparison holds or not."""
    count = len(architecture.closed)
    return b"".join(
        (
            _LINE.pack(_LOAD, 0, 0, _ARCHITECTURE_AT),
            _LINE.pack(_EQUAL, 1, 0, architecture.audit),
            _LINE.pack(_RETURN, 0, 0, _KILL),
            _LINE.pack(_LOAD, 0, 0, _NUMBER_AT),
            _LINE.pack(_AT_LEAST, count + 1, 0, _X32),
            *(
                _LINE.pack(_EQUAL, count - at, 0, number)
                for at, number in enumerate(architecture.closed.values())
            ),
            _LINE.pack(_RETURN, 0, 0, _ALLOW),
            _LINE.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM),
        )
    )
