"""The daemon is followed for who looks, for no longer, and whoever is slow keeps nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ipsecctl.web import live as live_module
from ipsecctl.web.asking import Daemon
from ipsecctl.web.live import KEPT, NOT_TOLD, Live
from tests.web.stand_in import PACKET, StandIn

PATIENCE_S = 30.0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # What it waits for happens in other threads.
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def run(daemon: StandIn, story: Callable[[Live], Awaitable[None]]) -> None:
    async def whole() -> None:
        live = Live(Daemon(str(daemon.path)))
        try:
            await story(live)
        finally:
            await live.close()

    asyncio.run(whole())


def test_the_daemon_is_followed_no_longer_than_somebody_looks(
    daemon: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is worth a while, and a watch as long as it lasts."""
    monkeypatch.setattr(live_module, "LINGER_S", 0.05)

    async def story(live: Live) -> None:
        assert daemon.followers == 0
        live.look()
        await until(lambda: daemon.followers == 1)
        await until(lambda: daemon.followers == 0)
        with live.watch():
            await until(lambda: daemon.followers == 1)
            await asyncio.sleep(0.2)
            assert daemon.followers == 1
        await until(lambda: daemon.followers == 0)

    run(daemon, story)


def test_who_reads_too_slowly_has_the_newest(daemon: StandIn) -> None:
    """What is kept for it is bounded; another that reads has all of it."""
    number = 300

    async def story(live: Live) -> None:
        with live.watch() as slow, live.watch() as quick:
            await until(lambda: daemon.followers == 1)
            read = 0
            for n in range(number):
                daemon.tell({**PACKET, "packet": f"tcp 10.0.0.{n} > me:1"}, blocked=n + 1)
                told = await anext(quick)
                read += len(told.packets)
            assert read == number
            first = await anext(slow)
            assert first.blocked > number / 2
            last = first
            while last.blocked < number:
                last = await anext(slow)
            assert last.packets[0]["packet"].startswith(f"tcp 10.0.0.{number - 1} ")
        assert len(live.last.packets) == KEPT

    run(daemon, story)


def test_a_daemon_that_tells_nothing_is_not_asked_again_and_again(daemon: StandIn) -> None:
    """It is asked anew when somebody looks anew, as it may have been upgraded."""
    daemon.tells_packets = False

    async def story(live: Live) -> None:
        live.look()
        await until(lambda: live.last.trouble == NOT_TOLD)
        daemon.tells_packets = True
        await asyncio.sleep(0.1)
        assert daemon.followers == 0
        live.look()
        await until(lambda: daemon.followers == 1)
        await until(lambda: live.last.trouble == "")

    run(daemon, story)


def test_a_daemon_that_ends_is_waited_for(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pause, and its word on what is wrong is there meanwhile."""
    monkeypatch.setattr(live_module, "RETRY_S", 0.2)

    async def story(live: Live) -> None:
        with live.watch():
            await until(lambda: daemon.followers == 1)
            daemon.hang_up()
            await until(lambda: "ended the connection" in live.last.trouble)
            await until(lambda: daemon.followers == 1)
            daemon.tell(PACKET, blocked=3)
            await until(lambda: live.last.blocked == 3 and live.last.trouble == "")

    run(daemon, story)
