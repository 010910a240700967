"""Owns the record of what was dropped, minute by minute; must not know who reads it.

Invariants:

1. Whoever tells of packets waits for nothing here: they are kept as they come, up to a bound, and
   counted later. What is beyond the bound is told as lost.
2. A minute in which nothing was dropped takes no room. It ends early when somebody asks, but for
   who asks again and again only so often: the older minutes would have to make room.
3. What rules dropped is what their counters say, where these can be read in time; what was seen of
   it is told beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Lock

from ipsecd.engine.recorder.journal import MISSED, START, Time
from ipsecd.engine.recorder.minutes import Counts, Minute, difference, remembered
from ipsecd.model.sightings import Sighting
from ipsecd.sources.files import Disk
from ipsecd.sources.ring import Json, Ring, is_over

MINUTE_NS = 60 * 1_000_000_000
EARLY_NS, MOST_EARLY = 20 * 1_000_000_000, 30
"""So many minutes may end early in a row, and then one each so many nanoseconds."""
FILE_BYTES = 1 << 20
MOST_WAITING = 50_000
"""So many packets may wait to be counted."""
MOST_REMEMBERED = 20_000
"""Of so many rules that are gone the counts are remembered."""
AT_A_TIME = 500
"""So many are counted at a time: a millisecond."""


class Drops:
    """Takes what was dropped, and writes it once a minute."""

    def __init__(self, directory: Path, disk: Disk, most_bytes: int) -> None:
        self.ring = Ring(directory, disk)
        self.to_json: Callable[[Sighting], Json] | None = None
        """Makes a sample of a packet; without it no samples are kept."""
        self.failure = ""
        """Why the last minute could not be written; "" if it was."""
        self._most_bytes = most_bytes
        self._begins: dict[int, int] = {}
        self._lock = Lock()
        self._waiting: deque[Sighting] = deque()
        self._told = self._told_before = (0, 0)
        self._overrun = 0
        self._minute: Minute | None = None
        self._counts: Counts | None = None
        self._luck = Random()  # noqa: S311 - it chooses samples
        self._is_loaded = False
        self._why = START
        self._due = 0
        self._is_asked = False
        self._paid_until = 0

    # -- for any thread --------------------------------------------------------------------------

    def end_minute(self) -> None:
        """Have the minute that runs end at the next ``work``: somebody asks what was dropped."""
        self._is_asked = True

    # -- in the thread of whoever tells ----------------------------------------------------------

    def take(self, sightings: Sequence[Sighting], blocked: int, lost: int) -> None:
        """Take packets that were dropped; `blocked` and `lost` count since the telling began."""
        with self._lock:
            room = MOST_WAITING - len(self._waiting)
            self._waiting.extend(sightings[:room])
            self._overrun += max(0, len(sightings) - room)
            self._told = (blocked, lost)

    # -- in the recorder's thread ----------------------------------------------------------------

    def work(self, now: Time, counts: Callable[[], Counts | None], oldest: int) -> bool:
        """Count packets, and write the minute if it is over. Whether there is more to count.

        `counts` reads the counters of all rules that drop, None if that would take too long.
        What cannot be written is lost, and told by ``failure``.
        """
        if not self._is_loaded:
            self._load()
        if self._minute is None:
            self._minute = Minute(now.at, self._luck)
            self._counts = counts()
            self._due = now.boottime + MINUTE_NS
        with self._lock:
            some = [self._waiting.popleft() for _ in range(min(AT_A_TIME, len(self._waiting)))]
            is_more = bool(self._waiting)
        self._minute.take(some)
        if not is_more and (now.boottime >= self._due or self._ends_early(now)):
            self._is_asked = False
            self._end_minute(now, counts(), oldest)
        return is_more

    def _ends_early(self, now: Time) -> bool:
        """Whether the minute ends because somebody asks, who has not asked too often."""
        if not self._is_asked:
            return False
        self._is_asked = False
        paid_until = max(self._paid_until, now.boottime) + EARLY_NS
        if paid_until > now.boottime + MOST_EARLY * EARLY_NS:
            return False
        self._paid_until = paid_until
        return True

    def end(self, now: Time, oldest: int) -> None:
        """Write what there is of the minute, as the daemon ends."""
        if self._minute is not None:
            with self._lock:
                rest = list(self._waiting)
                self._waiting.clear()
            self._minute.take(rest)
            self._end_minute(now, None, oldest)
            self._minute = None

    def _end_minute(self, now: Time, counts: Counts | None, oldest: int) -> None:
        minute = self._minute
        assert minute is not None
        exact = None
        if counts is not None:
            before = self._counts
            exact = None if before is None else difference(before, counts, minute.begin)
            self._counts = remembered(before, counts, MOST_REMEMBERED)
        self._minute = Minute(now.at, self._luck)
        self._due = now.boottime + MINUTE_NS
        blocked, lost = self._told_since()
        rules = minute.record(exact)
        if not rules and not blocked:
            return
        to_json = self.to_json
        record: Json = {
            "kind": "minute",
            "at": minute.begin,
            "until": max(now.at, minute.begin),
            "blocked": blocked,
            "lost": lost,
            "rules": rules,
            "samples": [to_json(each) for each in minute.samples()] if to_json else [],
        }
        self._write(record, now.at, oldest)

    def _told_since(self) -> tuple[int, int]:
        """How many packets were dropped and lost since this was asked last."""
        with self._lock:
            now, before = self._told, self._told_before
            overrun, self._overrun = self._overrun, 0
        self._told_before = now
        if now[0] < before[0] or now[1] < before[1]:
            # Whoever tells has begun anew.
            before = (0, 0)
        return now[0] - before[0], now[1] - before[1] + overrun

    def _write(self, record: Json, now: int, oldest: int) -> None:
        begun = None
        try:
            if self.ring.current is None or self.ring.current_size > FILE_BYTES:
                begun = self.ring.begin({"kind": "begin", "at": record["at"], "why": self._why})
                self._begins[begun] = _at(record)
            self.ring.add([record], durable=True)
        except OSError as error:
            self.ring.give_up()
            if begun is not None:
                # As long as writing fails there would be one more each minute.
                with suppress(OSError):
                    self._drop(begun)
            self.failure = error.strerror or str(error)
            self._why = MISSED
            return
        self._why, self.failure = START, ""
        with suppress(OSError):
            self._tidy(now, oldest)

    def _load(self) -> None:
        self.ring.load()
        self._is_loaded = True
        for number in self.ring.numbers:
            self._begins[number] = _at(self.ring.first(number))

    def _tidy(self, now: int, oldest: int) -> None:
        while len(numbers := self.ring.numbers) > 1 and (
            is_over([self._begins[number] for number in numbers], now, oldest)
            or self.ring.size > self._most_bytes
        ):
            self._drop(numbers[0])

    def _drop(self, number: int) -> None:
        self.ring.drop(number)
        del self._begins[number]


def _at(record: Json | None) -> int:
    at = record.get("at") if record else 0
    return at if isinstance(at, int) else 0
