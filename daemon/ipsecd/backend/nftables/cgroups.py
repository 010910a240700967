"""Owns finding control groups: what nf_tables knows them by, and whether this host has any.

A group is known by its depth and the number of its directory, which is another when a service is
started again. Source: nft_socket_cgroupv2 in net/netfilter/nft_socket.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ipsecd.compiler.classifier import HasTableId
from ipsecd.errors import Refused
from ipsecd.model.addresses import Process
from ipsecd.quoting import quote

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_SYSTEM = "system.slice"


class Group(NamedTuple):
    """A control group: how deep it lies (its parent's depth and 1), and its number."""

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
    """Whether the local processes of one endpoint are all of another's too, as things are now."""
    if outer == inner:
        return True
    top = root()
    if top is None:
        return False
    of_outer, of_inner = (next(_paths(str(one), top), None) for one in (outer, inner))
    return of_outer is not None and of_inner is not None and of_inner.is_relative_to(of_outer)


def _paths(process: str, top: Path) -> Iterator[Path]:
    """Where the group of an endpoint may lie: a service is in some slice, and slices are nested."""
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
    """Raise ``Refused`` if a table names local processes and this host has no such groups."""
    named = next((table.id.process for table in tables if table.id.process), None)
    if named and root() is None:
        raise Refused(
            f"{quote(named)} cannot be told apart here: "
            "this host has no unified control group hierarchy",
            "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
