"""Owns a line to a user's terminal, and which login a process belongs to.

A process tells the path of its terminal. Anything could be there, so only what is a terminal and
belongs to the user is written to, without waiting and without becoming its owner.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ipsecd.quoting import visible

PROCESSES = Path("/proc")
DEVICES = "/dev/"
UNSET = 0xFFFFFFFF
"""What the kernel has for a process that nobody's login has begun (AUDIT_SID_UNSET)."""


def tell_terminal(path: str, uid: int, line: str) -> bool:
    """Write a line to the terminal at `path`, if it belongs to `uid`; whether it was written.

    Root may have become root by sudo, on a terminal that still belongs to another user.
    """
    if not path.startswith(DEVICES) or ".." in path.split("/"):
        return False
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        return False
    try:
        facts = os.fstat(descriptor)
        is_theirs = uid in {facts.st_uid, 0}
        if not stat.S_ISCHR(facts.st_mode) or not is_theirs or not os.isatty(descriptor):
            return False
        text = f"\r\n{visible(line)}\r\n".encode("ascii", "backslashreplace")
        return os.write(descriptor, text) == len(text)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def login_of(pid: int) -> str:
    """What tells the login of a process apart from others; empty if that cannot be known.

    It is the session that the kernel gives every login, or else that of its terminal (proc(5)).
    """
    process = PROCESSES / str(pid)
    with suppress(OSError, ValueError):
        session = int((process / "sessionid").read_text(encoding="ascii"))
        if session != UNSET:
            return f"login {session}"
    with suppress(OSError, ValueError, IndexError):
        # The name of the program, in parentheses, may hold anything.
        fields = (process / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        return f"session {int(fields.split()[3])}"
    return ""
