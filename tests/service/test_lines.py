"""A line of work: what comes first, who is told, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial

import pytest

from ipsecd.service.lines import ACTION, READ, WorkLine
from tests.service.harness import PATIENCE_S, wait_until


class Held:
    """Something that a line works on until it is let go."""

    def __init__(self, line: WorkLine) -> None:
        self._begun, self._let_go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: line.wait_for(self._work))
        self._thread.start()
        assert self._begun.wait(PATIENCE_S)

    def _work(self) -> None:
        self._begun.set()
        assert self._let_go.wait(PATIENCE_S)

    def let_go(self) -> None:
        self._let_go.set()
        self._thread.join()


@pytest.fixture
def line() -> Iterator[WorkLine]:
    made = WorkLine("tested")
    yield made
    made.end()


def test_reads_wait_for_all_else(line: WorkLine) -> None:
    """Work of one rank is done in the order in which it came."""
    done: list[int] = []

    async def ask() -> None:
        held = Held(line)
        ranks = (READ, ACTION, READ, ACTION)
        works = [
            asyncio.create_task(line.submit(rank, partial(done.append, number)))
            for number, rank in enumerate(ranks)
        ]
        await asyncio.sleep(0)
        held.let_go()
        await asyncio.gather(*works)

    asyncio.run(ask())
    assert done == [1, 3, 0, 2]


def test_whoever_asked_is_told(line: WorkLine) -> None:
    """What comes of it, or the error, whether a task or a thread asked."""

    def fail() -> None:
        raise ValueError("no")

    async def ask() -> None:
        assert await line.submit(ACTION, threading.get_ident) != threading.get_ident()
        with pytest.raises(ValueError, match="no"):
            await line.submit(ACTION, fail)

    asyncio.run(ask())
    assert line.wait_for(threading.get_ident) != threading.get_ident()
    with pytest.raises(ValueError, match="no"):
        line.wait_for(fail)


def test_what_works_in_the_line_need_not_wait_for_it(line: WorkLine) -> None:
    """What a line is asked for by its own thread is done at once."""
    assert line.wait_for(lambda: line.wait_for(lambda: "done")) == "done"


def test_what_nobody_waits_for_any_more_is_not_begun(line: WorkLine) -> None:
    """A task that was cancelled meanwhile leaves its work undone, and the line goes on."""
    done: list[str] = []

    async def ask() -> None:
        held = Held(line)
        cancelled = asyncio.create_task(line.submit(ACTION, lambda: done.append("cancelled")))
        other = asyncio.create_task(line.submit(ACTION, lambda: done.append("other")))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        held.let_go()
        await other

    asyncio.run(ask())
    assert done == ["other"]


def test_work_that_runs_is_finished_though_its_task_is_cancelled(line: WorkLine) -> None:
    """The outcome has nobody who hears it, and harms nobody."""
    begun, let_go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert let_go.wait(PATIENCE_S)
        done.set()

    async def ask() -> None:
        task = asyncio.create_task(line.submit(ACTION, work))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        task.cancel()
        await asyncio.wait({task})
        let_go.set()
        assert await line.submit(ACTION, lambda: "next") == "next"

    asyncio.run(ask())
    assert done.is_set()


def test_a_loop_that_has_ended_is_told_nothing(line: WorkLine) -> None:
    """Its tasks are gone, and the line goes on."""
    held = Held(line)

    async def ask() -> None:
        asyncio.create_task(line.submit(ACTION, lambda: "to nobody"))  # noqa: RUF006 - it is left
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    held.let_go()
    assert line.wait_for(lambda: "done") == "done"


def test_the_end_cancels_what_has_not_begun() -> None:
    """Whoever waits is told, and so is whoever comes later."""
    line = WorkLine("ending")
    held = Held(line)

    async def ask() -> None:
        task = asyncio.create_task(line.submit(ACTION, lambda: None))
        thread = pool.submit(line.wait_for, lambda: None)
        ending = pool.submit(line.end)
        await asyncio.to_thread(wait_until, lambda: len(line._waiting) == 3, "three wait")
        held.let_go()
        await asyncio.to_thread(ending.result, PATIENCE_S)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(thread.exception(PATIENCE_S), CancelledError)
        with pytest.raises(asyncio.CancelledError):
            await line.submit(ACTION, lambda: None)

    with ThreadPoolExecutor() as pool:
        asyncio.run(ask())
    with pytest.raises(CancelledError):
        line.wait_for(lambda: None)
