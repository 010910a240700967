"""Owns the entries of dynamic rules in the maps; must not know when they come and go.

An entry has a deadline, the generation of the state from which it counts, and the generation until
which it counts.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path

from ipsecd.backend.base import Count
from ipsecd.backend.failures import not_taken
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.slots import packet_key
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family


class DynamicEntries:
    """The maps of dynamic entries, by IP version; each entry belongs to a numbered table."""

    def __init__(self, ipv4: int, ipv6: int) -> None:
        """Take the descriptors of the two maps, which stay the caller's."""
        self._maps = {Family.IPV4: ipv4, Family.IPV6: ipv6}
        self._clock_ahead = _clock_offset_ns()

    def write(self, entry: Entry, table: int, since: int, *, until: int = abi.FOREVER) -> None:
        """Write a dynamic entry; what it has counted stays."""
        key = _dynamic_key(entry, table)
        descriptor = self._maps[entry.table.family]
        old = libbpf.look_up(descriptor, key, abi.DYNAMIC_ENTRY.size)
        counted = abi.DYNAMIC_ENTRY.unpack(old)[3:] if old else (0, 0)
        deadline = 0
        if entry.deadline != inf:
            deadline = max(1, int(entry.deadline * 1e9) - self._clock_ahead)
        value = abi.DYNAMIC_ENTRY.pack(deadline, since, until, *counted)
        try:
            libbpf.update(descriptor, key, value)
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise LimitExceeded(
                    "the kernel's map of dynamic entries is full",
                    "remove dynamic rules that are no longer needed",
                ) from error
            raise not_taken(error.strerror) from error

    def erase(self, entry: Entry, table: int) -> None:
        """Take a dynamic entry away, if it is there."""
        libbpf.delete(self._maps[entry.table.family], _dynamic_key(entry, table))

    def eraser(self, numbers: Mapping[TableId, int]) -> Callable[[Entry], None]:
        """What takes entries away, by the `numbers` of their tables."""
        return lambda entry: self.erase(entry, numbers[entry.table])

    def count(self, entry: Entry, table: int) -> Count | None:
        """What an entry has matched; None if it is not there."""
        value = self._read(entry, table)
        return Count(*abi.DYNAMIC_ENTRY.unpack(value)[3:]) if value else None

    def _read(self, entry: Entry, table: int) -> bytes | None:
        return libbpf.look_up(
            self._maps[entry.table.family],
            _dynamic_key(entry, table),
            abi.DYNAMIC_ENTRY.size,
        )

    def holds(self, entry: Entry, table: int) -> bool:
        """Whether an entry is there and has no generation at which it ends."""
        value = self._read(entry, table)
        return value is not None and abi.DYNAMIC_ENTRY.unpack(value)[2] == abi.FOREVER


def _clock_offset_ns() -> int:
    """By how much CLOCK_MONOTONIC of this time namespace is ahead of the programs' clock.

    Programs see the clock of the initial one (time_namespaces(7)).
    """
    with suppress(OSError):
        for line in Path("/proc/self/timens_offsets").read_text(encoding="ascii").splitlines():
            clock, seconds, nanoseconds = line.split()
            if clock in {"monotonic", "1"}:
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0


def _dynamic_key(entry: Entry, table: int) -> bytes:
    layout = abi.DYNAMIC4 if entry.table.family is Family.IPV4 else abi.DYNAMIC6
    return layout.pack(table, packet_key(entry.table, entry.key))
