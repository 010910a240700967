"""Owns which processes have a socket, as the kernel tells whoever may look at them (proc(5)).

The daemon, confined as it is, sees no processes of others; root, who asks it, does.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PROCESSES = "/proc"
_SOCKET = "socket:["


class Process:
    """A process: its number, its name, and the user who runs it."""

    __slots__ = ("name", "pid", "user")

    def __init__(self, pid: int, name: str, user: str) -> None:
        self.pid = pid
        self.name = name
        self.user = user


def processes_of(inodes: Collection[int]) -> dict[int, list[Process]]:
    """The processes that have each of these sockets, those with low numbers first.

    What cannot be seen is not there.
    """
    found: dict[int, list[Process]] = {}
    for pid in _processes() if inodes else ():
        present = set(_sockets(pid)).intersection(inodes)
        process = _process(pid) if present else None
        if process:
            for inode in present:
                found.setdefault(inode, []).append(process)
    return found


def user_name(uid: int) -> str:
    """The name of a user; his number where he has none here."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(PROCESSES) if name.isdecimal())  # noqa: PTH208 - pathlib takes long to import
    except OSError:
        return []


def _sockets(pid: int) -> Iterator[int]:
    """The inodes of the sockets of a process."""
    directory = f"{PROCESSES}/{pid}/fd"
    try:
        descriptors = os.listdir(directory)  # noqa: PTH208 - pathlib takes long to import
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(f"{directory}/{descriptor}")  # noqa: PTH115 - pathlib takes long to import
        except OSError:
            continue
        if target.startswith(_SOCKET):
            yield int(target[len(_SOCKET) : -1])


def _process(pid: int) -> Process | None:
    directory = f"{PROCESSES}/{pid}"
    try:
        uid = os.stat(directory).st_uid  # noqa: PTH116 - pathlib takes long to import
        with open(f"{directory}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib takes long to import
            name = file.read().rstrip("\n")
    except OSError:
        return None
    return Process(pid, name, user_name(uid))
