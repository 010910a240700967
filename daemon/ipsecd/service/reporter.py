"""Owns the thread that reads what the backend tells of dropped packets, and hands it out.

It must not know who takes it. Invariants:

1. Of every packet that was dropped while somebody takes part it is known whether it was handed to
   him: what he was handed and what he lost are together what was dropped.
2. The kernel tells nothing, and nothing of this runs, while nobody takes part.
3. The thread waits for nobody who takes part, and nobody waits for the thread.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import NamedTuple, Protocol

from ipsecd.backend.base import Line
from ipsecd.backend.reporting import Report, Reporting
from ipsecd.errors import IpsecdError
from ipsecd.log import record, record_bug
from ipsecd.model.sightings import Sighting

ROUND_S = 0.1
"""How long reports are gathered before they are handed out. What the kernel holds back to tell of
several packets at once it holds for less."""
IDLE_S = 1.0
"""The time between two looks at what was dropped while there are no reports."""
READ_MOST = 128
"""Reports that are read at once: it takes some milliseconds to find out what decided about them."""


class Seeing(Protocol):
    """What the thread needs of an engine."""

    lost: int
    """How many packets those who watch have lost, all together; for metrics."""

    def look(self, budget: int) -> tuple[Reporting, int]:
        """Have at most `budget` packets a second reported; what tells of them, and the count.

        The count is of all packets that were dropped since the budget was 0; with a budget of 0
        it begins anew. Called in the kernel's line. Raises ``IpsecdError``.
        """
        ...

    def sightings(self, reports: Sequence[Report]) -> list[Sighting]:
        """What decided about packets; called in the reporter's thread, and may take its time."""
        ...


class Handed(NamedTuple):
    """What one who takes part is handed: packets, and how many there were and he has lost so far.

    The numbers count since he began.
    """

    sightings: tuple[Sighting, ...]
    blocked: int
    lost: int


class Part:
    """One who takes part: how many packets a second he gets, and what takes them.

    ``take`` is called in the reporter's thread and must not wait. ``room`` says how many more
    packets he can hold. ``fail`` is told why there are none; one without it is served again later.
    """

    def __init__(
        self,
        rate: int,
        take: Callable[[Handed], None],
        room: Callable[[], int],
        fail: Callable[[IpsecdError], None] | None = None,
    ) -> None:
        self.rate = rate
        self.take, self.fail = take, fail
        self._room = room
        self._allowance = float(rate)
        self._refilled = time.monotonic()
        self._before: int | None = None
        self._earlier = 0
        self._accepted = 0
        self._told: tuple[int, int] | None = None
        self._waiting: list[Sighting] = []

    def begin(self, total: int, counted: int) -> None:
        """Count from now on, if that was not begun.

        The kernel has `counted` so many, of which `total` were told of or are lost. Of the others
        some may still be told of; these are not his.
        """
        if self._before is None:
            self._before = max(total, counted)
            self._earlier = self._before - total

    def has_all_earlier(self) -> None:
        """All have been told of that were dropped before he began."""
        self._earlier = 0

    def offer(self, sightings: Sequence[Sighting]) -> None:
        """Keep as many as his rate and his room permit."""
        earlier = min(self._earlier, len(sightings))
        self._earlier -= earlier
        sightings = sightings[earlier:]
        now = time.monotonic()
        self._allowance += (now - self._refilled) * self.rate
        self._allowance = min(self._allowance, float(self.rate))
        self._refilled = now
        most = min(int(self._allowance), self._room() - len(self._waiting), len(sightings))
        if most > 0:
            self._allowance -= most
            self._waiting += sightings[:most]

    def hand_out(self, total: int) -> None:
        """Hand him what was kept, if there is anything new; `total` were dropped until now."""
        assert self._before is not None
        waiting, self._waiting = tuple(self._waiting), []
        self._accepted += len(waiting)
        # It is known a little later what of the `total` was dropped before he began.
        blocked = max(total - self._before, self._accepted)
        if waiting or self._told != (blocked, self._accepted):
            self._told = blocked, self._accepted
            self.take(Handed(waiting, blocked, blocked - self._accepted))


class Ledger:
    """How many packets were dropped: as many as were told of, and those that were lost.

    The kernel counts a packet before it tells of it. So what it has counted is compared with what
    it has told of once it has told of all that it is going to.
    """

    def __init__(self) -> None:
        self._read = 0
        self._lost = 0

    @property
    def total(self) -> int:
        """How many packets were dropped, as far as that is certain."""
        return self._read + self._lost

    def read(self, count: int) -> None:
        """So many packets were told of."""
        self._read += count

    def settle(self, counted: int) -> None:
        """The kernel had `counted` so many when it began to tell of all that were read since."""
        self._lost = max(self._lost, counted - self._read)


class Reporter:
    """Serves all who take part, in a thread that lives as long as there are any."""

    def __init__(self, seeing: Callable[[], Seeing], run: Line) -> None:
        """`seeing` is called in the thread once somebody takes part."""
        self._seeing, self._run = seeing, run
        self._lock = Lock()
        self._parts: list[Part] = []
        self._thread: Thread | None = None
        self._ledger, self._counted_before = Ledger(), 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_ending = Event()

    def add(self, part: Part) -> None:
        """Serve one more; for any thread."""
        with self._lock:
            self._parts = [*self._parts, part]
            if self._thread is None and not self._is_ending.is_set():
                self._thread = Thread(target=self._serve, name="reporter", daemon=True)
                self._thread.start()
            self._wake_up()

    def remove(self, part: Part) -> None:
        """Serve him no more, who may be served no more already; for any thread."""
        with self._lock:
            self._parts = [each for each in self._parts if each is not part]
            self._wake_up()

    def end(self) -> None:
        """Serve nobody any more, and wait until the kernel tells of nothing."""
        with self._lock:
            self._is_ending.set()
            self._parts, thread = [], self._thread
            self._wake_up()
        if thread:
            thread.join()
        with self._lock:
            os.close(self._wake)
            self._wake = -1

    def _wake_up(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    # -- the thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Serve all, until there is nobody."""
        is_reported = ""
        while self._goes_on():
            try:
                self._round(self._ledger)
                is_reported = ""
            except Exception as error:  # noqa: BLE001 - whoever asks next is served again
                failure = error if isinstance(error, IpsecdError) else _bug(error)
                if failure.message != is_reported:
                    record(logging.WARNING, "packets-not-reported", reason=failure.message)
                is_reported = failure.message
                self._fail(failure)
                if self._parts:
                    self._wait([], IDLE_S)

    def _goes_on(self) -> bool:
        """Whether there is somebody to serve; if not, the kernel is told, and the thread ends."""
        with self._lock:
            if self._parts:
                return True
        try:
            self._run(lambda: self._seeing().look(0))
        except Exception as error:  # noqa: BLE001 - whatever is put in force next switches it off
            reason = error.message if isinstance(error, IpsecdError) else repr(error)
            record(logging.WARNING, "reporting-not-switched-off", reason=reason)
        self._ledger, self._counted_before = Ledger(), 0
        with self._lock:
            if self._parts:
                return True
            self._thread = None
            return False

    def _fail(self, failure: IpsecdError) -> None:
        """Serve those no more who are told why."""
        with self._lock:
            failing = [part for part in self._parts if part.fail]
            self._parts = [part for part in self._parts if not part.fail]
        for part in failing:
            if part.fail:
                part.fail(failure)

    def _round(self, ledger: Ledger) -> None:
        """Gather reports for a while, and hand them out."""
        parts = self._parts
        budget = max((part.rate for part in parts), default=0)
        if not budget:
            return
        reporting, counted = self._run(lambda: self._seeing().look(budget))
        for part in parts:
            part.begin(ledger.total, counted)
            # He knows from this that packets are told of from now on.
            part.hand_out(ledger.total)
        # What is counted and neither read nor lost yet is settled soon.
        self._wait(reporting.descriptors(), IDLE_S if counted <= ledger.total else ROUND_S)
        end = time.monotonic() + ROUND_S
        is_drained = False
        while not is_drained or time.monotonic() < end:
            reports = reporting.read(READ_MOST)
            # Some of what tells may be read before the rest, and give its share only.
            is_drained = not reports
            if reports:
                ledger.read(len(reports))
                sightings = self._seeing().sightings(reports)
                for part in parts:
                    part.offer(sightings)
            if parts is not self._parts and self._is_ending.is_set():
                return
            if is_drained and (rest := end - time.monotonic()) > 0:
                self._wait(reporting.descriptors(), rest)
            elif time.monotonic() > end + ROUND_S:
                break
        if is_drained:
            # A busy kernel may be late to tell, so what it had counted one round ago is settled.
            ledger.settle(self._counted_before)
        self._counted_before = counted
        for part in parts:
            if is_drained:
                part.has_all_earlier()
            part.hand_out(ledger.total)

    def _wait(self, descriptors: Sequence[int], seconds: float) -> None:
        """Wait for reports, or until somebody comes or goes, but no longer than so many seconds."""
        poll = select.poll()
        for descriptor in (*descriptors, self._wake):
            poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake)


def _bug(error: Exception) -> IpsecdError:
    record_bug("bug", error, duty="reporter")
    return IpsecdError(
        "the daemon met a bug in itself, and tells of no packets",
        "its log has the details: journalctl -u ipsecd",
    )
