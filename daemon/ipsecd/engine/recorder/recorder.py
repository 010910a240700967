"""Owns the flight recorder: it hears of every change, and has it written; knows no thread.

Invariants:

1. A change waits for nothing here: it is noted in memory, and written later, by ``work``.
2. What is noted and not written yet is bounded. Beyond the bound, changes that follow one another
   become one, which says how many they were and since when.
3. Nothing here fails a change. What cannot be written is told by ``warnings``, and the stretch that
   is missing is told to whoever asks for a moment in it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Lock

from ipsecd.config import Config
from ipsecd.engine.doing import deed_of_now
from ipsecd.engine.recorder.dropped import Dropped, Wanted, dropped
from ipsecd.engine.recorder.drops import Drops
from ipsecd.engine.recorder.journal import MISSED, START, Earlier, Journal, Noted, Time
from ipsecd.engine.recorder.minutes import Counts
from ipsecd.engine.recorder.past import Past, parts_before, past_at
from ipsecd.engine.recorder.snapshots import Snapshot, Surroundings
from ipsecd.engine.state import State
from ipsecd.engine.this_boot import Boot
from ipsecd.errors import InvalidInput, NotFound, Refused, StoreFailed
from ipsecd.log import record_bug
from ipsecd.sources.blobs import Blobs
from ipsecd.sources.files import Disk
from ipsecd.sources.ring import Ring

DIRECTORY = "recorder"
DAYS = 7
DAY_NS = 24 * 3600 * 1_000_000_000
MOST_NOTED = 1000
"""So many changes may wait to be written; each keeps what was in force in memory."""
BATCH = 100
"""So many changes are written at a time."""
ALIVE_NS = 60 * 1_000_000_000
"""The time between two records that nothing has changed: so far one knows after a crash."""
RETRY_NS = 5 * 1_000_000_000


def clocks_of_host() -> Time:
    """The moment that is now, by the clocks of this host."""
    return Time(time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Recorder:
    """Records what is in force, and says what was."""

    def __init__(
        self,
        state_dir: Path,
        config: Config,
        boot: Boot | None = None,
        disk: Disk | None = None,
        clocks: Callable[[], Time] = clocks_of_host,
    ) -> None:
        """`boot` is this boot of the host, None to find that out."""
        self._config = config
        self._clocks = clocks
        disk = disk or Disk()
        directory = state_dir / DIRECTORY
        self._ring = Ring(directory / "states", disk)
        self._blobs = Blobs(directory / "contents", disk)
        self.drops = Drops(directory / "drops", disk, config.recorder_bytes // 2)
        self._journal = Journal(
            self._ring, self._blobs, (boot or Boot.of_now()).name, config.recorder_bytes // 2
        )
        self._lock = Lock()
        self._noted: deque[Noted] = deque()
        self._in_hand: list[Noted] = []
        self._latest: Snapshot | None = None
        self._first: tuple[Time, Snapshot] | None = None
        self._backend: Callable[[], str] = str
        self._counts: Callable[[], Counts | None] = dict
        self._is_loaded = False
        self._why = START
        self._alive_at = 0
        self._retry_at = 0
        self._failure = ""
        self.told: Callable[[], None] = lambda: None
        """Called when there is something to write, unless there was already."""
        self.written: Callable[[], None] = lambda: None
        """Waits a little until all that was noted so far is written."""

    @property
    def is_on(self) -> bool:
        """Whether the settings want a record."""
        return self._config.recorder_bytes > 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why nothing is recorded, in words; empty if all is well."""
        failure = self._failure or self.drops.failure
        if not failure:
            return ()
        hint = "look at the free space; nothing that is enforced depends on it"
        return (f"the flight recorder cannot write: {failure}\n  hint: {hint}",)

    # -- what happens ----------------------------------------------------------------------------

    def start(
        self,
        state: State,
        around: Surroundings,
        backend: Callable[[], str],
        counts: Callable[[], Counts | None] = dict,
    ) -> None:
        """Record from now on. `backend` says the name of the backend, for any thread.

        `counts` reads how many packets and bytes each rule that drops has counted, in the thread
        of ``work``; None if that cannot be said now.
        """
        if self.is_on:
            self._backend, self._counts = backend, counts
            self._latest = Snapshot(state, around, backend(), self._config)
            self._first = self._clocks(), self._latest

    def heard(self, state: State) -> None:
        """Note a state that is in force now, in whichever thread put it there."""
        if self._latest is not None:
            try:
                self._note(state, None)
            except Exception as error:  # noqa: BLE001 - the change is made, noted or not
                record_bug("recorder-missed-a-change", error)

    def moved(self, around: Surroundings) -> None:
        """Note that the addresses or interfaces of this host are others now."""
        if self._latest is not None:
            self._note(None, around)

    def _note(self, state: State | None, around: Surroundings | None) -> None:
        make_deed = deed_of_now() if state else None
        with self._lock:
            # Two threads may note, and what was noted later must have a later time.
            now = self._clocks()
            before = self._latest
            assert before is not None
            latest = Snapshot(
                before.state if state is None else state,
                before.surroundings if around is None else around,
                self._backend(),
                self._config,
            )
            self._latest = latest
            waiting = len(self._noted)
            noted = Noted(now, latest, make_deed)
            if waiting >= MOST_NOTED:
                last = self._noted.pop()
                first = last.first or last.time.at
                noted = replace(noted, changes=last.changes + 1, first=first)
            self._noted.append(noted)
        if not waiting:
            self.told()

    # -- writing, in one thread ------------------------------------------------------------------

    def work(self) -> bool:
        """Write some of what was noted. Whether there is more."""
        if self._latest is None:
            return False
        now = self._clocks()
        is_more = self.drops.work(now, self._counts, self._oldest(now))
        try:
            return self._work() or is_more
        except OSError as error:
            self._failure = error.strerror or str(error)
            self._begin_anew()
            return is_more
        except Exception:
            # What was not written would be missing from all that follows.
            self._begin_anew()
            raise

    def _begin_anew(self) -> None:
        """Have the next thing that is written be a whole moment, after a while."""
        self._ring.give_up()
        self._in_hand = []
        self._why = MISSED
        self._retry_at = self._clocks().boottime + RETRY_NS

    def _work(self) -> bool:
        now = self._clocks()
        earlier: Earlier = {}
        if not self._is_loaded:
            self._journal.load()
            self._is_loaded = True
            earlier = parts_before(self._ring)
        if not self._journal.is_open:
            if now.boottime < self._retry_at:
                self._forget_noted()
                return False
            # What was noted since the start follows the moment of it, however late it is written.
            whole, self._first = self._first or self._forget_noted(), None
            self._journal.begin(*whole, self._why, self._oldest(now), earlier)
            self._why, self._failure, self._alive_at = MISSED, "", now.boottime + ALIVE_NS
        with self._lock:
            some = [self._noted.popleft() for _ in range(min(BATCH, len(self._noted)))]
            self._in_hand, is_more = some, bool(self._noted)
        if some:
            self._journal.add(some, self._oldest(now))
            self._in_hand = []
        if now.boottime >= self._alive_at and not is_more:
            self._journal.alive(self._time_of_all(), self._oldest(now))
            self._alive_at = now.boottime + ALIVE_NS
        return is_more

    def _forget_noted(self) -> tuple[Time, Snapshot]:
        """What is in force now, whatever was noted before."""
        with self._lock:
            self._noted.clear()
            assert self._latest is not None
            return self._clocks(), self._latest

    def _time_of_all(self) -> Time:
        """The moment until which nothing else was noted."""
        with self._lock:
            return self._noted[0].time if self._noted else self._clocks()

    def _oldest(self, now: Time) -> int:
        return now.at - DAYS * DAY_NS

    def close(self, left: str) -> None:
        """Write all that was noted, and in a word what the daemon leaves in force."""
        while self.work():
            pass
        now = self._clocks()
        self.drops.end(now, self._oldest(now))
        if self._latest is not None and self._journal.is_open:
            try:
                self._journal.end(self._clocks(), left)
            except OSError as error:
                self._failure = error.strerror or str(error)
        self._latest = None

    # -- questions, for any thread ---------------------------------------------------------------

    def past(self, at: int) -> Past:
        """What was in force at a moment, in nanoseconds since the epoch, as far as it is written.

        Raises ``NotFound``, ``InvalidInput`` for a moment to come, ``StoreFailed``, and ``Refused``
        while a change that was made before it is not written.
        """
        self._must_be_on()
        now = self._clocks().at
        if at > now and not self._was_set:
            raise InvalidInput("that moment is still to come", "name one that has passed")
        with self._lock:
            unwritten = [*self._in_hand[:1], *islice(self._noted, 1)]
        if self._journal.is_open and any((each.first or each.time.at) <= at for each in unwritten):
            raise Refused(
                "the flight recorder has not written yet what changed before that moment",
                "ask again in a few seconds",
            )
        return past_at(self._ring, self._blobs, at, now)

    def dropped(self, wanted: Wanted) -> Dropped:
        """What was dropped, as far as it is written; raises as ``past`` does."""
        self._must_be_on()
        try:
            return dropped(self.drops.ring, wanted)
        except (ValueError, KeyError) as error:
            raise StoreFailed(
                f"what is recorded of that time cannot be used: {error}",
                "ask for another time; if that fails too, look at the disk",
            ) from error

    def _must_be_on(self) -> None:
        if not self.is_on:
            raise NotFound(
                "nothing is recorded: the settings have recorder: off",
                "write recorder: 64M into ipsecd.yaml, and restart the daemon",
            )

    @property
    def _was_set(self) -> bool:
        """Whether the clock was set, and so may have shown a moment that is to come."""
        return any((self._ring.first(n) or {}).get("why") == "clock" for n in self._ring.numbers)
