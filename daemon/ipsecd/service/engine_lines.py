"""Owns the threads that the engine works in; must not know what the engine does.

The engine is synchronous. Whoever wants something of it waits here, and the event loop never does.
There are three lines of work, one thread each, which do one thing after the other:

1. The kernel's: whatever speaks to the kernel or makes the next state, all of it short.
2. Changes of policies: they parse, compile and write files, and bring to the kernel's line only
   the moment in which what they made is put in force.
3. Reads that take long: they have the state as it was when they began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from queue import PriorityQueue
from threading import Lock, Thread, current_thread
from typing import Any, ParamSpec, Protocol, TypeVar

from ipsecd.backend.base import Line
from ipsecd.control.verdict import Question
from ipsecd.engine.lookups import Lookups
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.progress import Tell, silent

P = ParamSpec("P")
T = TypeVar("T")


class EngineLike(Protocol):
    """What the service asks of an engine, in the kernel's line where nothing else is said."""

    def use_line(self, line: Line) -> None:
        """Have `line` run all that speaks to the kernel, whichever line it is wanted in."""

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
        tell: Tell = silent,
    ) -> dict[str, Any]:
        """Carry out `method`, named without its interface, and give its reply's parameters.

        Called in the line that its ``Work`` says.

        `parameters` has every name that the method declares, None where one was left out. `by`
        is who asks, as ``uid 0 (root) pid 123``; `names` has the addresses of each DNS name that
        ``names_needed`` gave; `document` is the policy document of ``ApplyPolicy``, however it
        came; `tell` takes how far the work is. Raises ``IpsecdError``.
        """
        ...

    def names_needed(
        self,
        method: str,
        parameters: dict[str, Any],
        document: bytes | None,
        tell: Tell = silent,
    ) -> frozenset[str]:
        """The DNS names that must be looked up before `method` can be carried out."""
        ...

    def assessments(self) -> list[dict[str, Any]]:
        """What speaks for and against each backend here; called from any thread."""
        ...

    @property
    def lookups(self) -> Lookups:
        """How far the looking at the domain is; read in any thread."""
        ...

    def ask_domain(self) -> int:
        """Ask for a look at the domain; its number."""
        ...

    def tell_of_domain(
        self, number: int, message: str, *, changed: bool = False, problem: str = ""
    ) -> None:
        """Take what came of a look at the domain, which answers those up to `number`."""

    def question_about(self, bundle: bytes) -> Question:
        """What has to be asked about a bundle before it is taken; called from any thread."""
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

    def set_container_engine(
        self, source: str, news: Inventory | None, state: str, at: float
    ) -> None:
        """Enforce by what the engine behind a socket knew when it was asked, if there are news."""

    def follow_senders(self) -> bool:
        """Look whether services that filters name have been started or stopped.

        Whether ``keep_last_good`` is due.
        """
        ...

    def keep_last_good(self) -> None:
        """Keep what is in force for the next start; called in the line of changes."""

    def ping(self) -> None:
        """Do nothing; that it returns shows that the thread is alive."""


class EngineThread:
    """Runs functions in the engine's lines of work.

    In the kernel's line reads wait for everything else: who may only look must not keep others from
    acting.
    """

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine
        self._kernel = _Line("engine")
        self._changes = _Line("changes")
        self._reads = _Line("reads")
        # Pure work of other lines keeps the kernel's from running for so long at the most.
        sys.setswitchinterval(SWITCH_S)
        engine.use_line(self.at_once)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, once the kernel's line has come to it."""
        return await self._kernel.submit(_ACTION, partial(function, *args, **kwargs))

    async def look(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``run``, for what changes nothing; it waits until there is nothing else to do."""
        return await self._kernel.submit(_READ, partial(function, *args, **kwargs))

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, in the line of reads that take long."""
        return await self._reads.submit(_ACTION, partial(function, *args, **kwargs))

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, in the line of changes."""
        return await self._changes.submit(_ACTION, partial(function, *args, **kwargs))

    def at_once(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises in the kernel's line, waited for in another one."""
        return self._kernel.wait_for(work)

    async def end_changes(self) -> None:
        """Take no more changes and long reads, and wait for what runs; the kernel's goes on."""
        for line in (self._changes, self._reads):
            await asyncio.to_thread(line.end)

    def shut_down(self) -> None:
        """Take no more work, forget what has not begun, and wait for what runs."""
        for line in (self._changes, self._reads, self._kernel):
            line.end()


class _Line:
    """One thread, and the work that waits for it: by rank, and then in the order it came."""

    def __init__(self, name: str) -> None:
        self._numbers = count()
        self._waiting: PriorityQueue[_Work] = PriorityQueue()
        self._lock = Lock()
        self._is_open = True
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def submit(self, rank: int, function: Callable[[], T]) -> T:
        """What `function` returns or raises, awaited in the event loop."""
        result: T = await asyncio.wrap_future(self._put(rank, function))
        return result

    def wait_for(self, function: Callable[[], T]) -> T:
        """The same, waited for in whichever thread this is; in this one it is run at once."""
        if current_thread() is self._thread:
            return function()
        result: T = self._put(_ACTION, function).result()
        return result

    def end(self) -> None:
        """Take no more work, forget what has not begun, and wait for what runs."""
        self._put(_END, lambda: None)
        self._thread.join()

    def _put(self, rank: int, function: Callable[[], object]) -> Future[Any]:
        work = _Work(rank, next(self._numbers), function)
        with self._lock:
            if self._is_open:
                self._waiting.put(work)
            else:
                work.future.cancel()
        return work.future

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
        with self._lock:
            self._is_open = False
            while not self._waiting.empty():
                self._waiting.get().future.cancel()


SWITCH_S = 0.001
"""How long a thread may keep the interpreter while another waits; Python's own is five times it."""
_END, _ACTION, _READ = range(3)


@dataclass(order=True, slots=True)
class _Work:
    """One function that waits for its turn."""

    rank: int
    number: int
    function: Callable[[], Any] = field(compare=False, default=lambda: None)
    future: Future[Any] = field(compare=False, default_factory=Future)
