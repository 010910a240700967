"""Waiting for a socket to be readable, again and again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from ipsecd.service.connections import Readable

TURNS = 10
"""More turns of the loop than anything takes here."""


class Site:
    """Something that waits at one end of a connection, and a clock that stands still."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.now = 0.0
        asyncio.get_running_loop().time = lambda: self.now  # type: ignore[method-assign]
        self.readable = Readable(self.ours)
        self._task: asyncio.Task[None] | None = None

    async def begin(self, end: float | None = None) -> None:
        """Begin to wait."""
        self._task = asyncio.create_task(self.readable.wait(end))
        await self.turn()

    async def turn(self) -> None:
        """Let the loop do all that it has to do."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def is_over(self) -> bool:
        """Whether it waits no more; raises what that ended with."""
        assert self._task
        await self.turn()
        if not self._task.done():
            return False
        self._task.result()
        return True

    async def ends(self, at: float) -> bool:
        """The same, at a moment."""
        self.now = at
        return await self.is_over()

    def close(self) -> None:
        self.readable.close()
        self.ours.close()
        self.theirs.close()


def in_loop(test: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        site = Site()
        try:
            await test(site)
        finally:
            site.close()

    asyncio.run(run())


def test_each_wait_lasts_until_there_is_something() -> None:
    """What was there before and was read does not count for the next wait."""

    async def test(site: Site) -> None:
        for _ in range(3):
            await site.begin()
            assert not await site.is_over()
            site.theirs.send(b"x")
            assert await site.is_over()
            assert site.ours.recv(10) == b"x"

    in_loop(test)


def test_the_other_end_may_be_gone() -> None:
    """That ends a wait too."""

    async def test(site: Site) -> None:
        await site.begin()
        site.theirs.close()
        assert await site.is_over()

    in_loop(test)


def test_what_nobody_reads_keeps_no_loop_busy() -> None:
    """It is not watched until the next wait, which is over at once."""

    async def test(site: Site) -> None:
        await site.begin()
        site.theirs.send(b"xx")
        assert await site.is_over()
        assert site.ours.recv(1) == b"x"
        await site.turn()
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        assert site.ours.fileno() not in selector.get_map()
        await site.begin()
        assert await site.is_over()

    in_loop(test)


def test_a_wait_ends_in_time() -> None:
    """At its own end, and not at that of a wait before, which was shorter."""

    async def test(site: Site) -> None:
        await site.begin(10)
        site.theirs.send(b"x")
        assert await site.ends(9)
        site.ours.recv(10)
        await site.begin(19)
        assert not await site.ends(11)
        assert not await site.ends(18)
        with pytest.raises(TimeoutError):
            await site.ends(19)
        await site.begin()
        assert not await site.ends(1000)

    in_loop(test)


def test_what_comes_too_late_is_not_waited_for() -> None:
    """Also where there is something to read at every moment."""

    async def test(site: Site) -> None:
        site.theirs.send(b"x")
        site.now = 10
        await site.begin(10)
        with pytest.raises(TimeoutError):
            await site.is_over()

    in_loop(test)
