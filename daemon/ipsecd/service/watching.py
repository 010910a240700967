"""Owns who watches what is dropped: each with a queue of his own; must not know what tells of it.

1. A watcher who does not read loses packets, which he is told, and nobody else notices him.
2. What a watcher got and what he lost are together what was dropped since he began.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self

from ipsecd.backend.base import Line
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded
from ipsecd.log import record_bug
from ipsecd.model.sightings import Sighting
from ipsecd.service.reporter import Handed, Part, Reporter, Seeing

MOST_WATCHERS = 32
MOST_OF_USER = 16
"""How many of these one user may have, so that there is room for others."""
MOST_RATE = 10_000
"""Packets a second that are told of: as many as one thread finds the rules of."""
RATE = 1000
"""Packets a second where nothing else is asked for: more than anybody reads."""
QUEUE_MOST = 4096
"""Packets that wait for one watcher; some kilobytes each are kept once for all who wait."""
BATCH_MOST = 100
"""Packets in one batch: writing them as JSON takes a millisecond."""

Sink = Callable[[Sequence[Sighting], int, int], None]
"""Takes packets, and how many were dropped and how many of these it has lost since it began."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Packets that were dropped, and how many there were and were lost, since the watch began.

    Those of this batch, of all before it, and the lost ones are together those that were dropped.
    """

    sightings: tuple[Sighting, ...]
    blocked: int
    lost: int


class Watch:
    """What one watcher gets, batch after batch; the first comes once packets are told of."""

    def __init__(
        self,
        reporter: Reporter,
        rate: int,
        ended: Callable[[Watch], object],
        lose: Callable[[int], None],
    ) -> None:
        """`lose` is told how many more packets were lost, and `ended` when nobody watches."""
        self._loop = asyncio.get_running_loop()
        self._reporter, self._ended, self._lose = reporter, ended, lose
        self._queue: deque[Sighting] = deque()
        self._lost = 0
        self._got = 0
        self._failure: IpsecdError | None = None
        self._news = asyncio.Event()
        self._is_open = True
        self._part = Part(rate, self._take, self._room, self._fail)
        reporter.add(self._part)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """The next batch; raises ``IpsecdError`` where packets cannot be told of."""
        await self._news.wait()
        if not self._is_open:
            raise StopAsyncIteration
        if self._failure and not self._queue:
            raise self._failure
        lost = self._lost
        many = range(min(len(self._queue), BATCH_MOST))
        sightings = tuple(self._queue.popleft() for _ in many)
        if not self._queue and not self._failure:
            self._news.clear()
        self._got += len(sightings)
        return Batch(sightings, self._got + lost, lost)

    async def aclose(self) -> None:
        """Watch no more."""
        if self._is_open:
            self._is_open = False
            self._news.set()
            self._reporter.remove(self._part)
            self._queue.clear()
            self._ended(self)

    # -- in the reporter's thread ----------------------------------------------------------------

    def _room(self) -> int:
        return QUEUE_MOST - len(self._queue)

    def _take(self, handed: Handed) -> None:
        self._queue.extend(handed.sightings)
        self._tell(partial(self._hear, handed.lost))

    def _fail(self, failure: IpsecdError) -> None:
        self._tell(partial(self._hear_failure, failure))

    def _tell(self, news: Callable[[], None]) -> None:
        # A loop that has ended has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(news)

    # -- in the loop -----------------------------------------------------------------------------

    def _hear(self, lost: int) -> None:
        self._lose(lost - self._lost)
        self._lost = lost
        self._news.set()

    def _hear_failure(self, failure: IpsecdError) -> None:
        self._failure = failure
        self._news.set()


class Watching:
    """Everybody who watches, and the daemon's own sinks."""

    def __init__(self, seeing: Callable[[], Seeing], run: Line) -> None:
        """`run` runs work in the kernel's line and waits for it; `seeing` gives what is seen."""
        self._reporter, self._seeing = Reporter(seeing, run), seeing
        self._watches: dict[Watch, int] = {}

    def watch(self, rate: int = RATE, uid: int = 0) -> Watch:
        """Begin to watch for a user, with at most `rate` packets a second; for the event loop.

        Raises ``InvalidInput`` for a rate that cannot be, and ``LimitExceeded`` where too many
        watch already.
        """
        _check(rate)
        self._must_have_room(uid)
        watch = Watch(self._reporter, rate, self._watches.pop, self._lose)
        self._watches[watch] = uid
        return watch

    def add_sink(self, rate: int, sink: Sink) -> Callable[[], None]:
        """Have `sink` called with at most `rate` packets a second; what is returned ends that.

        It is called in the reporter's thread and must be short. Where packets cannot be told of
        that is in the log, and tried again.
        """
        _check(rate)

        def take(handed: Handed) -> None:
            try:
                sink(handed.sightings, handed.blocked, handed.lost)
            except Exception as error:  # noqa: BLE001 - others are served all the same
                record_bug("bug", error, duty="sink of packets")

        part = Part(rate, take, lambda: rate)
        self._reporter.add(part)
        return partial(self._reporter.remove, part)

    def _must_have_room(self, uid: int) -> None:
        """Whoever else watches, there is always room for root."""
        hint = "end one of them; several can read what one of them writes"
        if list(self._watches.values()).count(uid) >= MOST_OF_USER:
            raise LimitExceeded(
                f"uid {uid} already watches what is dropped {MOST_OF_USER} times", hint
            )
        if uid and len(self._watches) >= MOST_WATCHERS:
            raise LimitExceeded(f"{MOST_WATCHERS} already watch what is dropped", hint)

    def _lose(self, packets: int) -> None:
        self._seeing().lost += packets

    def end(self) -> None:
        """Have nobody watch any more, and wait until the kernel tells of nothing."""
        self._reporter.end()


def _check(rate: int) -> None:
    if not 1 <= rate <= MOST_RATE:
        raise InvalidInput(
            f"{rate:,} packets a second are not between 1 and {MOST_RATE:,}",
            "ask for fewer: those that are not told of are counted all the same",
        )
