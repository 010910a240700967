"""Owns a line to a user's terminal.

A process tells the path of its terminal. Anything could be there, so only what is a terminal and
belongs to the user is written to, without waiting and without becoming its owner.
"""

from __future__ import annotations

import os
import stat

from ipsecd.quoting import visible

DEVICES = "/dev/"


def tell_terminal(path: str, uid: int, line: str) -> bool:
    """Write a line to the terminal at `path`, if it belongs to `uid`; whether it was written.

    Root may have become root by sudo, on a terminal that still belongs to another user.
    """
    if not path.startswith(DEVICES) or ".." in path.split("/"):
        return False
    # Opening some devices does something by itself, such as starting a watchdog, so they are looked
    # at before.
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if not _is_theirs(os.lstat(path), uid):
            return False
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        return False
    try:
        if not _is_theirs(os.fstat(descriptor), uid) or not os.isatty(descriptor):
            return False
        text = f"\r\n{visible(line)}\r\n".encode("ascii", "backslashreplace")
        return os.write(descriptor, text) == len(text)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_theirs(facts: os.stat_result, uid: int) -> bool:
    return stat.S_ISCHR(facts.st_mode) and uid in {facts.st_uid, 0}
