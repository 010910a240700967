"""Owns the packets that the daemon tells of while somebody watches; must not know how they look.

1. The daemon is followed once, however many watch, and not while nobody does.
2. Who reads too slowly misses packets, and keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from ipsecctl.web.asking import Daemon, NotTold
from ipsecd.errors import IpsecdError

RATE = 200
"""Packets a second that are asked for: more than anybody reads."""
KEPT = 200
"""The last packets, for who begins to watch."""
LINGER_S = 30.0
"""How long the daemon is followed after the last one has looked."""
RETRY_S = 2.0
_WAITING = 50
NOT_TOLD = "This daemon does not tell which packets it drops; a newer one does."


@dataclass(frozen=True, slots=True)
class Told:
    """What the daemon has told at once: packets, how many were dropped since it is followed.

    ``lost`` of those were not told of. ``trouble`` says why nothing is told, "" if all is well.
    """

    packets: tuple[dict[str, Any], ...] = ()
    blocked: int = 0
    lost: int = 0
    trouble: str = ""


class Live:
    """The packets of now."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._recent: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._watchers: set[asyncio.Queue[Told]] = set()
        self._wanted_until = 0.0
        self._following: asyncio.Task[None] | None = None
        self._last = Told()

    @property
    def last(self) -> Told:
        """The last packets, the newest last, with the numbers and the trouble of now."""
        return Told(tuple(self._recent), self._last.blocked, self._last.lost, self._last.trouble)

    def look(self) -> Told:
        """What there is, without waiting; the daemon is followed for a while from now on."""
        self._want()
        return self.last

    @contextlib.contextmanager
    def watch(self) -> Iterator[AsyncIterator[Told]]:
        """What is told from now on."""
        queue: asyncio.Queue[Told] = asyncio.Queue(_WAITING)
        self._watchers.add(queue)
        self._want()
        try:
            yield _each(queue)
        finally:
            self._watchers.discard(queue)
            self._want()

    async def close(self) -> None:
        """Follow the daemon no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})

    def _want(self) -> None:
        self._wanted_until = asyncio.get_running_loop().time() + LINGER_S
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    def _is_wanted(self) -> bool:
        return bool(self._watchers) or asyncio.get_running_loop().time() < self._wanted_until

    async def _follow(self) -> None:
        while self._is_wanted():
            try:
                await self._follow_once()
            except NotTold:
                self._tell(Told(trouble=NOT_TOLD))
                return
            except IpsecdError as error:
                self._tell(Told(trouble=error.message))
            if self._is_wanted():
                # Also a daemon that ends each time without an error is not asked all the time.
                await asyncio.sleep(RETRY_S)

    async def _follow_once(self) -> None:
        """Tell all watchers what the daemon tells, until nobody wants it or it ends."""
        replies = self._daemon.follow("Monitor", rules=None, rate=RATE)
        async with contextlib.aclosing(replies):
            coming = asyncio.create_task(_next(replies))
            try:
                while self._is_wanted():
                    await asyncio.wait({coming}, timeout=1.0)
                    if not coming.done():
                        if self._last.trouble:
                            self._tell(Told())
                        continue
                    reply = coming.result()
                    if reply is None:
                        return
                    self._tell(Told(tuple(reply["packets"]), reply["blocked"], reply["lost"]))
                    coming = asyncio.create_task(_next(replies))
            finally:
                coming.cancel()
                await asyncio.wait({coming})

    def _tell(self, told: Told) -> None:
        self._recent.extend(told.packets)
        self._last = told
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(told)


async def _next(replies: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any] | None:
    return await anext(replies, None)


async def _each(queue: asyncio.Queue[Told]) -> AsyncIterator[Told]:
    while True:
        yield await queue.get()
