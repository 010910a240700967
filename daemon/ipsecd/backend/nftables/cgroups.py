"""Owns finding control groups: how nf_tables identifies them, and whether this host has any.

nf_tables identifies a group by its depth and the inode number of its directory. A service that is
started again has another number. Source: nft_socket_cgroupv2 in net/netfilter/nft_socket.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ipsecd.compiler.classifier import HasTableId
from ipsecd.errors import Refused
from ipsecd.model.addresses import Process
from ipsecd.quoting import quote

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_SYSTEM = "system.slice"


class Group(NamedTuple):
    """A control group: its depth below the root, and its inode number."""

    level: int
    number: int


def root() -> Path | None:
    """Where the unified hierarchy is mounted; None if it is not."""
    return next((path for path in ROOTS if (path / "cgroup.procs").exists()), None)


def find(process: str) -> Group | None:
    """The group of an endpoint ``service:NAME`` or ``cgroup:PATH``; None if there is none now."""
    top = root()
    if top is None:
        return None
    for path in _paths(process, top):
        try:
            number = path.stat().st_ino
        except OSError:
            continue
        return Group(len(path.relative_to(top).parts), number)
    return None


def holds(outer: Process, inner: Process) -> bool:
    """Whether at the moment all local processes of `inner` are processes of `outer` too."""
    if outer == inner:
        return True
    top = root()
    if top is None:
        return False
    outer_path, inner_path = (next(_paths(str(process), top), None) for process in (outer, inner))
    if outer_path is None or inner_path is None:
        return False
    return inner_path.is_relative_to(outer_path)


def has(process: Process, number: int) -> bool:
    """Whether the group with this inode number is that of an endpoint, or one below it."""
    top = root()
    path = next(_paths(str(process), top), None) if top and number else None
    if path is None:
        return False
    try:
        return path.stat().st_ino == number or any(
            each.stat().st_ino == number for each in path.rglob("*/")
        )
    except OSError:
        # A group has gone, and with it the sockets that were made in it, as far as anybody knows.
        return False


def paths_by_number() -> dict[int, str]:
    """The path of every group below the root, by its inode number."""
    top = root()
    numbers: dict[int, str] = {}
    waiting = [str(top)] if top else []
    while waiting:
        directory = waiting.pop()
        # A group may have gone meanwhile.
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    numbers[entry.inode()] = entry.path.removeprefix(str(top))
                    waiting.append(entry.path)
    return numbers


def _paths(process: str, top: Path) -> Iterator[Path]:
    """Where the group of an endpoint may be: a service is in some slice, and slices are nested."""
    kind, _, name = process.partition(":")
    if kind == "cgroup":
        yield top / name.lstrip("/")
        return
    for slice_ in (top / _SYSTEM, *_slices(top)):
        if (slice_ / name).is_dir():
            yield slice_ / name


def _slices(top: Path) -> Iterator[Path]:
    yield top
    for path in sorted(top.glob("*.slice")):
        yield from _slices(path)


def find_all(tables: Iterable[HasTableId]) -> dict[str, Group | None]:
    """The groups that tables name."""
    return {process: find(process) for process in sorted({t.id.process for t in tables}) if process}


def require(tables: Iterable[HasTableId]) -> None:
    """Raise ``Refused`` if a table names local processes and this host has no control groups."""
    named = next((table.id.process for table in tables if table.id.process), None)
    if named and root() is None:
        raise Refused(
            f"{quote(named)} cannot be told apart here: "
            "this host has no unified control group hierarchy",
            "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
