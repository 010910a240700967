"""Owns the threads that the engine works in; must not know what the engine does.

The engine is synchronous, and the event loop must never wait for it. So its work is done in three
lines of work. Each is a thread that does one thing after the other:

1. The kernel's line has all work that uses the kernel or makes the next state; all of it is short.
2. The line of changes has changes of policies: they parse, compile and write files. Only the moment
   in which the outcome is put in force is in the kernel's line.
3. The line of reads has reads that take long. They use the state as it was when they began.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from ipsecd.backend.base import Line
from ipsecd.control.audited import AuditedFlows
from ipsecd.control.feeds import Wanted
from ipsecd.control.verdict import Question
from ipsecd.engine.caller import DAEMON, Caller
from ipsecd.engine.guard import Guarded
from ipsecd.engine.lookups import Lookups
from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.progress import Tell, silent
from ipsecd.service.lines import ACTION, READ, WorkLine
from ipsecd.service.reporter import Seeing

P = ParamSpec("P")
T = TypeVar("T")

SWITCH_S = 0.001
"""How long a thread may keep the interpreter while another waits. Python's default is 5 ms."""


class EngineLike(Protocol):
    """What the service needs of an engine; called in the kernel's line unless it says otherwise."""

    def use_line(self, line: Line) -> None:
        """Have `line` run all work on the kernel, whichever thread asks for it."""

    def start(self) -> None:
        """Enforce the assigned policy; returns once it is enforced, by nftables at least."""

    def load_programs(self) -> None:
        """Have the programs follow that ``start`` left for later; called in the line of changes."""

    def stop_on_purpose(self) -> None:
        """Withdraw what is enforced, or keep it, as the setting ``on-stop`` says."""

    def end_for_restart(self) -> None:
        """Leave the policy in force for the next process, and no dynamic rule."""

    def close(self) -> None:
        """Close everything and leave the kernel as it is."""

    def call(
        self,
        method: str,
        parameters: dict[str, Any],
        by: str,
        names: Mapping[str, tuple[Network, ...]],
        document: bytes | None,
        tell: Tell = silent,
        caller: Caller = DAEMON,
    ) -> dict[str, Any]:
        """Carry out `method`, named without its interface, and return the parameters of its reply.

        It is called in the line that the ``Work`` of the method says.

        `parameters` has every name that the method declares, None for one that was left out. `by`
        is who asks, as ``uid 0 (root) pid 123``; `names` has the addresses of each DNS name that
        ``names_needed`` gave; `document` is the policy document of ``ApplyPolicy``, however it
        came; `tell` is called with the progress. `caller` is who asks, with what he wants of a
        change. Raises ``IpsecdError``.
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

    def names_to_guard(self, method: str, caller: Caller) -> frozenset[str] | None:
        """The DNS names that have to be looked up to know what a change must spare.

        None if it need not spare anything.
        """
        ...

    def guarded(
        self, method: str, caller: Caller, names: Mapping[str, tuple[Network, ...]]
    ) -> Guarded | None:
        """What a change must not cut; None if it may cut anything. Called in any thread."""
        ...

    def with_filters_read(
        self, parameters: dict[str, Any], document: bytes | None
    ) -> dict[str, Any]:
        """The parameters with the filters of a call read; called in any thread."""
        ...

    def loads_lists(self, method: str, parameters: dict[str, Any]) -> bool:
        """Whether long lists have to be loaded for a call; called in any thread."""
        ...

    def after_loading_lists(
        self, method: str, parameters: dict[str, Any], call: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Carry out a `call` of `method` after long lists were loaded; in the line of changes."""
        ...

    def judge_live(self, reply: dict[str, Any]) -> None:
        """Have a reply that waits for it say which open connections are cut; in any thread."""

    def assessments(self) -> list[dict[str, Any]]:
        """What speaks for and against each backend on this host; called in any thread."""
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

    def unconfirmed_due_in(self) -> float | None:
        """In how many seconds a change has to be put back; None if none waits. For any thread."""
        ...

    def put_back_if_due(self) -> None:
        """Put back a change that nobody has confirmed in time; called in the line of changes."""

    def history_due_in(self) -> float | None:
        """In how many seconds rows of the history are to be written; None if none are."""
        ...

    def write_history(self) -> None:
        """Write them; called in the line of changes."""

    def record(self, around: Surroundings, /) -> None:
        """Have the flight recorder note every change from now on, on a host that is like this."""

    @property
    def recorder(self) -> Recorder | None:
        """The flight recorder; None if there is none. For any thread."""
        ...

    @property
    def audited(self) -> AuditedFlows:
        """The flows that audit rules noted; for any thread."""
        ...

    @property
    def has_audits(self) -> bool:
        """Whether any rule in force is an audit; for any thread."""
        ...

    @property
    def counts_are_behind(self) -> bool:
        """Whether ``keep_counts`` should be called soon; read in any thread."""
        ...

    def keep_counts(self) -> None:
        """Write what rules have matched; called in the line of changes."""

    def next_list_end(self) -> float | None:
        """When the next entry of a list ends, in seconds since the epoch; None if none does.

        It is called in the line of changes, as is ``expire_lists``.
        """
        ...

    def expire_lists(self) -> None:
        """Take the entries out of lists that have ended."""

    def next_feed(self) -> tuple[float, str] | None:
        """When the next feed is due, in seconds since the epoch, and of which list; or None.

        It is called in the line of changes, as are the next two.
        """
        ...

    def wanted_feed(self, method: str, parameters: dict[str, Any]) -> Wanted:
        """The feed that has to be fetched before `method` can be carried out."""
        ...

    def feed_failed(self, name: str, problem: str) -> None:
        """Note that the feed of a list could not be had."""

    def watch_fd(self) -> int:
        """A descriptor that is readable when the kernel has news; the same from start to close."""
        ...

    def watch(self) -> None:
        """Read the kernel's news, and undo what others changed."""

    container_engines: tuple[Path, ...]
    """The sockets of the container engines to follow."""

    def wants_containers(self) -> bool:
        """Whether container engines have to be followed; called in any thread."""
        ...

    def set_container_engine(
        self, source: str, inventory: Inventory | None, state: str, asked_at: float
    ) -> None:
        """Take the state of the container engine behind a socket, and what it told, if it did."""

    def follow_senders(self) -> bool:
        """Look whether services that filters name have been started or stopped.

        Returns whether ``keep_last_good`` should be called.
        """
        ...

    def keep_last_good(self) -> None:
        """Save what is in force for the next start; called in the line of changes."""

    def ping(self) -> None:
        """Do nothing: returning shows that the thread is alive."""

    @property
    def seeing(self) -> Seeing:
        """What is seen of dropped packets; for the reporter's thread."""
        ...


class EngineLines:
    """Runs functions in the engine's lines of work.

    In the kernel's line reads wait for everything else: a client that may only read must not delay
    those that change something.
    """

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine
        self._kernel = WorkLine("engine")
        self._changes = WorkLine("changes")
        self._reads = WorkLine("reads")
        # The threads share one interpreter: the kernel's line waits at most so long for the others.
        sys.setswitchinterval(SWITCH_S)
        engine.use_line(self.at_once)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in the kernel's line, and return or raise what it does."""
        return await self._kernel.submit(ACTION, partial(function, *args, **kwargs))

    async def run_when_idle(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, for a function that changes nothing: it waits until the line is idle."""
        return await self._kernel.submit(READ, partial(function, *args, **kwargs))

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, in the line of reads that take long."""
        return await self._reads.submit(ACTION, partial(function, *args, **kwargs))

    async def change(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same, in the line of changes."""
        return await self._changes.submit(ACTION, partial(function, *args, **kwargs))

    def at_once(self, work: Callable[[], T]) -> T:
        """Run `work` in the kernel's line, and wait for it in the thread that calls this."""
        return self._kernel.wait_for(work)

    async def end_changes(self) -> None:
        """Take no more changes and long reads, and wait for those that run.

        The kernel's line goes on.
        """
        for line in (self._changes, self._reads):
            await asyncio.to_thread(line.end)

    def shut_down(self) -> None:
        """Take no more work, forget what has not begun, and wait for what runs."""
        for line in (self._changes, self._reads, self._kernel):
            line.end()
