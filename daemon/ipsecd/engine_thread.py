"""Owns the one thread that the engine lives in; must not know what the engine does.

The engine is synchronous and belongs to one thread. Whoever wants something of it waits in
line here, and the event loop never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from queue import PriorityQueue
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from ipsecd.model.inventory import Inventory
from ipsecd.model.values import Network

P = ParamSpec("P")
T = TypeVar("T")


class EngineLike(Protocol):
    """What the service asks of an engine. Every method is called from one and the same thread."""

    def start(self) -> None:
        """Enforce the assigned policy; returns once it is enforced."""

    def stop_on_purpose(self) -> None:
        """Withdraw what is enforced, or keep it, as the configuration's ``on-stop`` says."""

    def end_for_restart(self) -> None:
        """Leave the policy in force for the next process, and no dynamic rule."""

    def close(self) -> None:
        """Let go of everything and leave the kernel as it is."""

    def call(
        self,
        method: str,
        parameters: dict[str, Any],
        by: str,
        names: Mapping[str, tuple[Network, ...]],
        document: bytes | None,
    ) -> dict[str, Any]:
        """Carry out `method`, named without its interface, and give its reply's parameters.

        `parameters` has every name that the method declares, None where one was left out. `by`
        is who asks, as ``uid 0 (root) pid 123``; `names` has the addresses of each DNS name that
        ``names_needed`` gave; `document` is the policy document of ``ApplyPolicy``, however it
        came. Raises ``IpsecdError``.
        """
        ...

    def names_needed(
        self, method: str, parameters: dict[str, Any], document: bytes | None
    ) -> frozenset[str]:
        """The DNS names that must be looked up before `method` can be carried out."""
        ...

    def assessments(self) -> list[dict[str, Any]]:
        """What speaks for and against each backend here; called from any thread."""
        ...

    def next_expiry(self) -> float | None:
        """When the next dynamic rule ends, in monotonic seconds; None if none does."""
        ...

    def expire(self) -> None:
        """Remove the dynamic rules that have ended."""

    def watch_fd(self) -> int:
        """A descriptor that is readable when the kernel has news; one from start to close."""
        ...

    def watch(self) -> None:
        """Read the kernel's news, and put right what others changed."""

    container_engines: tuple[Path, ...]
    """The sockets of the container engines to follow."""

    def wants_containers(self) -> bool:
        """Whether they have to be followed; called from any thread."""
        ...

    def set_container_engine(self, source: str, inventory: Inventory | None, state: str) -> None:
        """Enforce by what the engine behind a socket knows now, if there are news; its state."""

    def follow_senders(self) -> None:
        """Look whether services that filters name have been started or stopped."""

    def ping(self) -> None:
        """Do nothing; that it returns shows that the thread is alive."""


class EngineThread:
    """Runs functions in the engine's thread, one at a time, in the order they were asked for.

    Reads wait for everything else: who may only look must not keep others from acting.
    """

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine
        self._numbers = count()
        self._waiting: PriorityQueue[_Work] = PriorityQueue()
        self._thread = Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, once the engine's thread has come to it."""
        return await self._submit(_ACTION, partial(function, *args, **kwargs))

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``run``, for what changes nothing; it waits until there is nothing else to do."""
        return await self._submit(_READ, partial(function, *args, **kwargs))

    def shut_down(self) -> None:
        """Take no more work, forget what has not begun, and wait for what runs."""
        self._waiting.put(_Work(_END, next(self._numbers)))
        self._thread.join()

    async def _submit(self, rank: int, function: Callable[[], T]) -> T:
        work = _Work(rank, next(self._numbers), function)
        self._waiting.put(work)
        result: T = await asyncio.wrap_future(work.future)
        return result

    def _work(self) -> None:
        while (work := self._waiting.get()).rank != _END:
            if not work.future.set_running_or_notify_cancel():
                continue
            try:
                result = work.function()
            except BaseException as error:  # noqa: BLE001 - whoever asked is told
                work.future.set_exception(error)
            else:
                work.future.set_result(result)
        while not self._waiting.empty():
            self._waiting.get().future.cancel()


_END, _ACTION, _READ = range(3)


@dataclass(order=True, slots=True)
class _Work:
    """One function that waits for its turn."""

    rank: int
    number: int
    function: Callable[[], Any] = field(compare=False, default=lambda: None)
    future: Future[Any] = field(compare=False, default_factory=Future)
