"""Owns what programs tell of the frames that they drop or count; must not know rules, nor links.

Invariants:

1. Nothing is told, counted or read while nobody watches, and no program is slower for it.
2. What was dropped, or an audit has counted, is what was counted here, exactly: programs that go
   are counted until no packet is on its way through them any more, and those that come from before
   their first packet.
3. Each of the programs that are followed tells no more than the budget allows.
4. While nothing is told nothing is readable: nobody is woken for a budget that is not used.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.reporting import Report
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.followed import Followed
from ipsecd.backend.xdp.records import count, reports_of
from ipsecd.backend.xdp.timer import Timer

TICK_NS = 100_000_000
TICKS_A_SECOND = 10
_ALL = 1 << 32


class ProgramReports:
    """The reports of all programs that are followed: those in force, and those that go or come.

    It is a ``Reporting``. One thread calls ``read``, the kernel's line all else.
    """

    def __init__(self) -> None:
        self._followed: dict[int, Followed] = {}
        self._left: list[Followed] = []
        self._counted = 0
        self._budget = 0
        self._tenths = 0
        self._lock = threading.Lock()
        self._timer, self._ticks = Timer(), False
        self._epoll = select.epoll()
        self._epoll.register(self._timer, select.EPOLLIN)
        self._closed = False

    def descriptors(self) -> tuple[int, ...]:
        """One, which stays the same; none when it is closed.

        It is readable also when the next part of a budget is due of which something was used.
        """
        return () if self._closed else (self._epoll.fileno(),)

    def set_budget(self, packets_per_second: int) -> None:
        """Have so many reports a second, 0 for none; what is counted begins anew with the first.

        The budget comes in parts ten times a second, by ``read``, and what is left of one is lost.
        """
        before = self._budget
        if packets_per_second <= 0:
            self._switch_off()
            return
        if packets_per_second == before:
            return
        with self._lock:
            part_before = self._part
            self._budget = packets_per_second
            self._tick(on=True)
            if before:
                # Whoever wants more is told as much from now on, and not from the next tick.
                for programs in self._followed.values():
                    programs.add(max(0, self._part - part_before), self._part)
                return
            self._counted = self._tenths = 0
            for programs in self._followed.values():
                self._begin(programs)

    def read(self, most: int) -> list[Report]:
        """The reports that wait, the oldest of each program first; never blocks."""
        records = []
        with self._lock:
            if self._closed:
                return []
            if ticks := self._timer.drain():
                self._allow(ticks)
            for programs in (*self._left, *self._followed.values()):
                taken = programs.ring.take(most)
                most -= count(taken)
                records.append(taken)
            if any(records) and self._budget:
                self._tick(on=True)
            # Nobody writes to those that are left: what is empty stays so.
            empty = [programs for programs in self._left if not programs.ring.holds_any()]
            self._left = [programs for programs in self._left if programs not in empty]
            for programs in empty:
                self._end(programs)
        # Programs have no wall clock.
        offset = time.time_ns() - time.monotonic_ns()
        return [report for part in records for report in reports_of(part, offset)]

    def blocked(self) -> int:
        """How many frames were dropped, or audits have counted, since reporting was switched on."""
        with self._lock:
            return self._counted + sum(programs.dropped() for programs in self._followed.values())

    def follow(self, maps: Mapping[str, int]) -> None:
        """Have the programs of these maps tell, from before they judge; raises ``OSError``."""
        if maps["reports"] in self._followed:
            return
        programs = Followed(maps)
        with self._lock:
            self._followed[maps["reports"]] = programs
            if self._budget:
                self._begin(programs)

    def leave(self, maps: Mapping[str, int]) -> None:
        """Follow the programs of these maps no more; what they have told can still be read.

        They must judge no more, or it must not matter what they drop.
        """
        with self._lock:
            programs = self._followed.pop(maps.get("reports", -1), None)
            if programs is None:
                return
            programs.allow(0)
        if self._budget:
            wait_for_packets()
        with self._lock:
            self._counted += programs.dropped()
            if self._budget:
                self._left.append(programs)
            else:
                programs.close()

    def close(self) -> None:
        """End all of it."""
        self._switch_off()
        with self._lock:
            self._closed = True
            for programs in self._followed.values():
                programs.close()
            self._followed.clear()
            self._epoll.close()
            self._timer.close()

    # -- inside ----------------------------------------------------------------------------------

    def _switch_off(self) -> None:
        if not self._budget:
            return
        with self._lock:
            self._budget = 0
            self._tick(on=False)
            for programs in self._followed.values():
                programs.allow(0)
        # Whoever switches it on again shall find nothing that belongs to an earlier count.
        wait_for_packets()
        with self._lock:
            for programs in self._followed.values():
                self._epoll.unregister(programs.ring)
                programs.ring.take(_ALL)
            for programs in self._left:
                self._end(programs)
            self._left.clear()

    def _begin(self, programs: Followed) -> None:
        self._epoll.register(programs.ring, select.EPOLLIN)
        programs.begin(self._part)

    def _end(self, programs: Followed) -> None:
        self._epoll.unregister(programs.ring)
        programs.close()

    @property
    def _part(self) -> int:
        """The most that may be told between two ticks."""
        return max(1, self._budget // TICKS_A_SECOND)

    def _allow(self, ticks: int) -> None:
        """Raise what may be told by what the ticks are worth, but by no more than one part."""
        if self._budget:
            whole, self._tenths = divmod(self._tenths + self._budget * ticks, TICKS_A_SECOND)
            full = [programs.add(whole, self._part) for programs in self._followed.values()]
            self._tick(on=not all(full))

    def _tick(self, *, on: bool) -> None:
        """Have the timer run or stand still; while it runs it is left as it is."""
        if on is not self._ticks:
            self._timer.run(TICK_NS if on else 0)
            self._ticks = on


def end_left(directory: Path) -> None:
    """End the reports of programs whose maps somebody has pinned there: nobody reads them."""
    with suppress(OSError):
        descriptor = libbpf.get_pinned(directory / "reporting")
        try:
            if libbpf.map_info(descriptor).value_size == abi.REPORTING.size:
                libbpf.update(descriptor, struct.pack("=I", 0), abi.REPORTING.pack(0, 0))
        finally:
            os.close(descriptor)
