"""Owns closing system calls for ever to a process that only reads and writes (seccomp(2)).

What is closed reaches others: sockets, signals, memory of other processes, programs, BPF. On
architectures that are not listed nothing is closed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
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
class _Architecture:
    """Its name in linux/audit.h as a number, and the numbers of what is closed (unistd.h)."""

    audit: int
    closed: tuple[int, ...]


_EVERYWHERE = (
    424,  # pidfd_send_signal
    425,  # io_uring_setup
    434,  # pidfd_open
    435,  # clone3
    438,  # pidfd_getfd
)
_ARCHITECTURES = {
    "x86_64": _Architecture(
        0xC000003E,
        (
            *(41, 42, 53),  # socket, connect, socketpair
            *(56, 57, 58, 59, 322),  # clone, fork, vfork, execve, execveat
            *(62, 200, 234, 129, 297),  # kill, tkill, tgkill, rt_(tg)sigqueueinfo
            *(101, 310, 311),  # ptrace, process_vm_readv, process_vm_writev
            *(298, 321),  # perf_event_open, bpf
            *_EVERYWHERE,
        ),
    ),
    "aarch64": _Architecture(
        0xC00000B7,
        (
            *(198, 203, 199),  # socket, connect, socketpair
            *(220, 221, 281),  # clone, execve, execveat
            *(129, 130, 131, 138, 240),  # kill, tkill, tgkill, rt_(tg)sigqueueinfo
            *(117, 270, 271),  # ptrace, process_vm_readv, process_vm_writev
            *(241, 280),  # perf_event_open, bpf
            *_EVERYWHERE,
        ),
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
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    lines = _lines(architecture)
    program = _Program(len(lines) // _LINE.size, lines)
    if _libc.prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)):
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            return False
        raise OSError(number, os.strerror(number))
    return True


def _lines(architecture: _Architecture) -> bytes:
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
                for at, number in enumerate(architecture.closed)
            ),
            _LINE.pack(_RETURN, 0, 0, _ALLOW),
            _LINE.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM),
        )
    )
