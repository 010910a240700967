"""Owns a line of work: a thread that does one thing after the other; must not know what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_END, ACTION, READ = range(3)
"""The ranks of work: reads wait for everything else."""


class WorkLine:
    """One thread and the work that waits for it, by rank and then in the order it was submitted.

    A hand-over costs a ban a good part of its time, so it is made of little: for each piece of work
    a token in a queue that C has, which the thread waits for, and one call back.
    """

    def __init__(self, name: str) -> None:
        self._numbers = count()
        self._waiting: list[tuple[int, int, _Work]] = []
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._lock = Lock()
        self._is_open = True
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def submit(self, rank: int, function: Callable[[], T]) -> T:
        """Run `function` in this line, and await it in the event loop."""
        work = _Awaited(function)
        self._put(rank, work)
        result: T = await work.future
        return result

    def wait_for(self, function: Callable[[], T]) -> T:
        """Run `function` in this line, and wait for it; in the line's own thread run it at once."""
        if current_thread() is self._thread:
            return function()
        work = _WaitedFor(function)
        self._put(ACTION, work)
        result: T = work.future.result()
        return result

    def end(self) -> None:
        """Take no more work, forget what has not begun, and wait for what runs."""
        self._put(_END, _WaitedFor(lambda: None))
        self._thread.join()

    def _put(self, rank: int, work: _Work) -> None:
        with self._lock:
            if self._is_open:
                heappush(self._waiting, (rank, next(self._numbers), work))
                self._tokens.put(None)
            else:
                work.forget()

    def _run(self) -> None:
        while True:
            self._tokens.get()
            with self._lock:
                rank, _, work = heappop(self._waiting)
                if rank == _END:
                    self._is_open = False
                    for _, _, forgotten in self._waiting:
                        forgotten.forget()
                    self._waiting.clear()
                    return
            work.carry_out()


class _Work(Protocol):
    """One function that waits for its turn, and whoever waits for what it returns or raises."""

    def carry_out(self) -> None:
        """Run the function, unless nobody waits any more; called in the line's thread."""

    def forget(self) -> None:
        """Cancel whoever waits."""


class _WaitedFor:
    """Work that another thread waits for."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.future: Future[Any] = Future()

    def carry_out(self) -> None:
        """Run the function, and let the thread go on with the outcome."""
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - whoever asked is told
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def forget(self) -> None:
        """Cancel whoever waits."""
        self.future.cancel()


class _Awaited:
    """Work that a task of an event loop awaits."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def carry_out(self) -> None:
        """Run the function unless the task was cancelled, and have the loop tell the outcome."""
        if self.future.cancelled():
            return
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - whoever asked is told
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, result)

    def forget(self) -> None:
        """Cancel the task that awaits it."""
        self._tell(self.future.cancel)

    def _tell(self, call: Callable[..., object], *outcome: object) -> None:
        # A loop that has ended has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *outcome)

    def _succeed(self, result: object) -> None:
        if not self.future.cancelled():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if not self.future.cancelled():
            self.future.set_exception(error)
