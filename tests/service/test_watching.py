"""Who watches what is dropped gets it, is told what he lost, and disturbs nobody else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from ipsecd.backend.joined_reports import JoinedReports
from ipsecd.backend.memory import MemoryReporting
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded, Refused
from ipsecd.model.sightings import Sighting
from ipsecd.service.reporter import Ledger
from ipsecd.service.watching import (
    BATCH_MOST,
    MOST_OF_USER,
    MOST_RATE,
    MOST_WATCHERS,
    QUEUE_MOST,
    Batch,
    Watch,
    Watching,
)
from tests.service.harness import PATIENCE_S, MemorySeeing, report

T = TypeVar("T")


def at_once(work: Callable[[], T]) -> T:
    return work()


def watching(test: Callable[[Watching, MemorySeeing], Awaitable[None]]) -> None:
    """Run a test in an event loop; at its end nothing is reported any more."""
    memory = MemorySeeing()

    async def run() -> None:
        served = Watching(lambda: memory, at_once)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await test(served, memory)
        finally:
            await asyncio.to_thread(served.end)

    asyncio.run(run())
    assert memory.budgets[-1:] in ([], [0])


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so that another thread does."""
    for _ in range(int(PATIENCE_S * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never was so")


def has_blocked(count: int) -> Callable[[Batch], bool]:
    return lambda batch: batch.blocked == count


async def until(
    watch: Watch, done: Callable[[Batch], bool], before: int = 0
) -> tuple[list[int], Batch]:
    """What a watcher gets until a batch is `done`: the times of packets, and that batch.

    He has got so many `before`.
    """
    times: list[int] = []
    async for batch in watch:
        times += [sighting.at_ns for sighting in batch.sightings]
        # What is got and what is lost are what was dropped, at every moment.
        assert before + len(times) + batch.lost == batch.blocked
        if done(batch):
            return times, batch
    raise AssertionError("it ended before")


def test_a_watcher_gets_what_is_dropped_and_then_it_costs_nothing() -> None:
    """The first batch says that packets are told of; all that follow come, in their order."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        watch = served.watch(1000)
        assert await anext(watch) == Batch((), 0, 0)
        memory.drop(250)
        times, last = await until(watch, lambda batch: batch.blocked >= 250)
        assert (times, last.lost) == (list(range(250)), 0)
        await watch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        await eventually(lambda: memory.budgets == [1000, 0])

    watching(test)


def test_of_two_that_tell_one_may_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gives its share of what is read at once, and what still waits is not lost."""
    first, second = MemoryReporting(), MemoryReporting()

    def look(memory: MemorySeeing, budget: int) -> tuple[JoinedReports, int]:
        joined = JoinedReports((first, second))
        memory.budgets.append(budget)
        joined.set_budget(budget)
        return joined, joined.blocked()

    monkeypatch.setattr(MemorySeeing, "look", look)

    async def test(served: Watching, _: MemorySeeing) -> None:
        watch = served.watch(10_000)
        await anext(watch)
        for count in range(1, 6):
            first.drop([report(n) for n in range(1000)])
            await until(watch, has_blocked(count * 1000), (count - 1) * 1000)
        assert watch._lost == 0

    watching(test)


def test_a_batch_is_short() -> None:
    """A reply with it is written as JSON in the event loop, which must not be kept for long."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        watch = served.watch(5000)
        await anext(watch)
        memory.drop(3 * BATCH_MOST)
        sizes = [len((await anext(watch)).sightings) for _ in range(3)]
        assert max(sizes) <= BATCH_MOST

    watching(test)


def test_what_the_kernel_does_not_tell_of_is_lost() -> None:
    """More than the budget is counted, and told as lost."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        watch = served.watch(100)
        await anext(watch)
        memory.drop(1000)
        times, last = await until(watch, has_blocked(1000))
        assert (len(times), last.lost) == (100, 900)
        assert memory.lost == 900

    watching(test)


def test_each_watcher_has_a_rate_of_his_own() -> None:
    """The kernel tells as much as the greediest wants; the others lose the rest, and know it."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        few, many = served.watch(10), served.watch(1000)
        await anext(few)
        await anext(many)
        await eventually(lambda: memory.budgets[-1] == 1000)
        memory.drop(500)
        times, last = await until(many, has_blocked(500))
        assert (len(times), last.lost) == (500, 0)
        times, last = await until(few, has_blocked(500))
        assert len(times) == 10
        assert last.lost == 490

    watching(test)


def test_one_who_does_not_read_loses_and_nobody_else_does() -> None:
    """His queue is full at some time; he is told how many he lost once he reads again."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        stuck, alive = served.watch(MOST_RATE), served.watch(MOST_RATE)
        await anext(stuck)
        await anext(alive)
        sent = 0
        while sent < QUEUE_MOST + 1000:
            memory.drop(1000, sent)
            sent += 1000
            _, last = await until(alive, has_blocked(sent), sent - 1000)
            assert last.lost == 0
        times, last = await until(stuck, has_blocked(sent))
        assert len(times) == QUEUE_MOST
        assert last.lost == sent - QUEUE_MOST

    watching(test)


def test_one_who_comes_later_counts_from_then_on() -> None:
    """What was dropped before he came is neither told to him nor lost."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        first = served.watch(1000)
        await anext(first)
        memory.drop(200)
        await until(first, has_blocked(200))
        second = served.watch(1000)
        assert await anext(second) == Batch((), 0, 0)
        memory.drop(50, 200)
        times, last = await until(second, has_blocked(50))
        assert (times[0], last.lost) == (200, 0)
        await first.aclose()
        memory.drop(50, 250)
        times, last = await until(second, has_blocked(100), before=50)
        assert last.lost == 0

    watching(test)


def test_one_who_comes_in_a_flood_is_not_told_of_what_was_before() -> None:
    """What is not yet known to be lost when he comes is no loss of his."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        first = served.watch(100)
        await anext(first)
        memory.drop(1000)
        second = served.watch(100)
        assert await anext(second) == Batch((), 0, 0)
        memory.drop(50, 2000)
        times, last = await until(second, has_blocked(50))
        assert times == list(range(2000, 2000 + len(times)))
        await until(first, has_blocked(1050))
        memory.drop(10, 3000)
        new, last = await until(second, has_blocked(60), len(times))
        assert new[-1] == 3009
        assert last.lost == 50 - len(times)

    watching(test)


def test_there_is_an_end_to_how_many_watch() -> None:
    """One more is refused, until somebody goes; root has room all the same."""

    async def test(served: Watching, _: MemorySeeing) -> None:
        watches = [served.watch(1, 1000 + n // MOST_OF_USER) for n in range(MOST_WATCHERS)]
        with pytest.raises(LimitExceeded, match=f"^{MOST_WATCHERS} already watch"):
            served.watch(1, 2000)
        of_root = [served.watch(1, 0) for _ in range(MOST_OF_USER)]
        assert len(of_root) == MOST_OF_USER
        for watch in watches[: MOST_OF_USER + 1]:
            await watch.aclose()
        served.watch(1, 2000)

    watching(test)


@pytest.mark.parametrize("uid", [0, 1000])
def test_no_user_takes_the_places_of_others(uid: int) -> None:
    """He has his share, and anew when one of his has ended."""

    async def test(served: Watching, _: MemorySeeing) -> None:
        watches = [served.watch(1, uid) for _ in range(MOST_OF_USER)]
        with pytest.raises(LimitExceeded, match=f"^uid {uid} already watches"):
            served.watch(1, uid)
        served.watch(1, 2000)
        await watches[0].aclose()
        served.watch(1, uid)

    watching(test)


@pytest.mark.parametrize("rate", [0, -1, MOST_RATE + 1])
def test_a_rate_that_cannot_be_is_refused(rate: int) -> None:
    """It says what can be."""

    async def test(served: Watching, _: MemorySeeing) -> None:
        with pytest.raises(InvalidInput, match="between 1 and 10,000"):
            served.watch(rate)

    watching(test)


def test_where_nothing_can_be_told_a_watcher_is_told_why() -> None:
    """The error is the one of the backend; who comes later may have more luck."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        memory.failure = Refused("the kernel has no nft_log", "load it")
        watch = served.watch(10)
        with pytest.raises(IpsecdError, match="no nft_log"):
            await anext(watch)
        memory.failure = None
        again = served.watch(10)
        assert await anext(again) == Batch((), 0, 0)

    watching(test)


def test_a_bug_ends_a_watch_and_not_the_thread() -> None:
    """Whoever watches next is served."""

    async def test(served: Watching, memory: MemorySeeing) -> None:
        memory.failure = ZeroDivisionError()
        with pytest.raises(IpsecdError, match="a bug in itself"):
            await anext(served.watch(10))
        memory.failure = None
        await anext(served.watch(10))

    watching(test)


def test_a_sink_gets_the_same_numbers_and_comes_back_after_a_failure() -> None:
    """The daemon's own sink is not told of failures: it is served again once it is possible."""
    got: list[tuple[int, int, int]] = []
    news = threading.Event()

    def sink(sightings: Sequence[Sighting], blocked: int, lost: int) -> None:
        got.append((len(sightings), blocked, lost))
        news.set()
        raise ZeroDivisionError

    async def test(served: Watching, memory: MemorySeeing) -> None:
        memory.failure = Refused("not yet", "wait")
        remove = served.add_sink(1000, sink)
        memory.failure = None
        assert await asyncio.to_thread(news.wait, PATIENCE_S)
        memory.drop(300)
        await eventually(lambda: sum(count for count, _, _ in got) == 300)
        assert got[-1][1:] == (300, 0)
        remove()
        await eventually(lambda: not (memory.budgets[-1]))

    watching(test)


def test_nobody_waits_while_nothing_comes() -> None:
    """Without reports the thread looks once a second only."""

    async def test(served: Watching, _: MemorySeeing) -> None:
        await anext(served.watch(10))
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.25

    watching(test)


def test_what_is_lost_is_certain() -> None:
    """What the kernel has counted and not told of yet is not taken for lost."""
    ledger = Ledger()
    ledger.read(10)
    ledger.settle(counted=4)
    assert ledger.total == 10
    ledger.settle(counted=15)
    assert ledger.total == 15
    ledger.read(5)
    ledger.settle(counted=18)
    assert ledger.total == 20
