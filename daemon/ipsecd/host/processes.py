"""Owns what the kernel tells of another process: its name, and who had logged in when it began.

Where the daemon is confined it sees no processes of others, and nothing is known.
"""

from __future__ import annotations

import os

UNSET = (1 << 32) - 1
"""The number of no user: nobody has logged in, as for services (proc(5))."""
MAX_NAME = 64
_MAX_BYTES = 256


def command_of(pid: int) -> str:
    """The name of a process; empty where it cannot be seen."""
    return _read(pid, "comm")[:MAX_NAME]


def login_uid_of(pid: int) -> int | None:
    """The user who had logged in when a process began; None if nobody had, or it is not known."""
    number = _read(pid, "loginuid")
    uid = int(number) if number.isascii() and number.isdecimal() else UNSET
    return uid if uid < UNSET else None


def _read(pid: int, name: str) -> str:
    # A file object of Python costs four times these calls, and the event loop waits for them.
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, _MAX_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return content.decode("utf-8", "replace").strip()
