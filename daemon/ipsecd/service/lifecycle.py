"""Owns the daemon's life: the order of start and end, signals, and what it does by itself.

1. The locks of the network namespace and of the runtime directory are taken first, so that two
   daemons never use the same kernel state.
2. Clients are admitted, and the daemon reports itself ready, only when the assigned policy is
   enforced.
3. However the daemon ends, the engine is closed, and closing leaves the kernel as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from enum import Enum
from typing import Any

from ipsecd import __version__
from ipsecd.config import Config, Directories
from ipsecd.errors import IpsecdError
from ipsecd.host.container_engines import Follower
from ipsecd.log import record, record_bug
from ipsecd.model.inventory import Inventory
from ipsecd.service.admission import Service
from ipsecd.service.calls import Calls
from ipsecd.service.connections import wait_readable
from ipsecd.service.engine_lines import EngineLike, EngineLines
from ipsecd.service.hearing import Hearing
from ipsecd.service.listener import RuntimeLock, open_listener
from ipsecd.service.notify import Notifier
from ipsecd.service.recording import Recording

RETRY_S = 1.0
SENDERS_S = 0.2
"""The time between two looks at the control groups of services that filters name."""
LEAST_WAIT_S = 0.01
"""The least time between two rounds of expiry: rules that end together are removed as one."""
CLOCK_S = 60.0
"""The time between two looks at the wall clock while an entry of a list has an end."""
LOOK_S = 1.0
"""The time between two looks at the clock of the boot while a change waits to be confirmed."""
AUDITS_S = 10.0
"""How long it may take until audits are followed that came without a call, as from a domain."""
COUNTS_S = 60.0
"""The time between two writings of what rules have matched: what a loss of power can lose."""
TELLING_S = 0.05
"""How long after a change the duties hear of it: of many bans in a row they hear once, as a look at
what is due is work for three threads, and takes longer than a ban."""
WATCH_PAUSE_S = 0.05
"""The time between two looks at the kernel's news: others may change their tables in bursts."""


class Ending(Enum):
    """Why the daemon ends."""

    STOP = "stop"
    """On purpose: what is enforced is withdrawn, unless the configuration keeps it."""
    HAND_OVER = "hand-over"
    """For an upgrade: all that is enforced stays, for the next daemon to take over."""
    RESTART = "restart"
    """On purpose: the policy stays for the next daemon, and dynamic rules are forgotten."""


class Daemon:
    """One run of the daemon around an engine."""

    def __init__(self, engine: EngineLike, config: Config, directories: Directories) -> None:
        self._engine = engine
        self._engine_lines = EngineLines(engine)
        self._config = config
        self._directories = directories
        self._notifier = Notifier(os.environ)
        self._changed = asyncio.Event()
        self._lists_changed = asyncio.Event()
        self._feeds_changed = asyncio.Event()
        self._changes_made = asyncio.Event()
        self._rows_begun = asyncio.Event()
        self._counters_changed = asyncio.Event()
        self._counts_due = time.monotonic() + COUNTS_S
        self._is_telling = False
        self._calls = Calls(self._engine_lines, changed=self._tell_of_change)
        self._ending: asyncio.Future[Ending] | None = None
        self._recording: Recording | None = None
        self._audits_changed = asyncio.Event()
        self._hearing = Hearing(engine, self._calls.watching)
        self._reload_wanted = asyncio.Event()
        self._watch_again = False

    async def run(self) -> None:
        """Start, serve until a signal, and end; raises ``IpsecdError`` if it cannot start."""
        lock = RuntimeLock(self._directories.runtime)
        try:
            await self._run()
        finally:
            self._calls.shut_down()
            await asyncio.to_thread(self._calls.watching.end)
            # A change that still runs would open again what is closed here.
            await self._engine_lines.end_changes()
            if self._recording:
                await asyncio.to_thread(self._recording.stop)
            await self._engine_lines.run(self._engine.close)
            self._engine_lines.shut_down()
            lock.close()

    async def _run(self) -> None:
        ending = self._ending = asyncio.get_running_loop().create_future()
        self._catch_signals()
        self._notifier.status("putting the assigned policy in force")
        await self._engine_lines.run(self._engine.start)
        await self._record()
        listener = open_listener(self._directories.runtime, os.environ)
        try:
            service = Service(
                listener.sock, self._calls.answer, self._config.limits, follow=self._calls.follow
            )
            async with self._duties(), self._followers():
                service.start()
                record(logging.INFO, "ready", version=__version__, pid=os.getpid())
                self._notifier.ready("serving; ipsecctl status says what is in force")
                reason = await ending
            record(logging.INFO, "ending", why=reason.value)
            self._notifier.stopping("withdrawing" if reason is Ending.STOP else "handing over")
            await service.close()
        finally:
            listener.close()
        await self._engine_lines.end_changes()
        if reason is Ending.STOP:
            await self._engine_lines.run(self._engine.stop_on_purpose)
        elif reason is Ending.RESTART:
            await self._engine_lines.run(self._engine.end_for_restart)

    async def _record(self) -> None:
        """Have the flight recorder record. It is no reason not to start that it cannot."""
        if self._engine.recorder is None:
            return
        recording = Recording(self._engine.recorder)
        try:
            around = await asyncio.to_thread(recording.look_around)
        except OSError as error:
            record(logging.ERROR, "recorder-not-started", reason=error.strerror)
            await asyncio.to_thread(recording.stop)
            return
        await self._engine_lines.run(self._engine.record, around)
        recording.start()
        self._recording = recording
        self._hearing.begin()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, Ending.STOP)
        loop.add_signal_handler(signal.SIGINT, self._end, Ending.STOP)
        loop.add_signal_handler(signal.SIGUSR1, self._end, Ending.HAND_OVER)
        loop.add_signal_handler(signal.SIGUSR2, self._end, Ending.RESTART)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)

    def _end(self, why: Ending) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(why)

    @contextlib.asynccontextmanager
    async def _duties(self) -> AsyncIterator[None]:
        """Do everything that the daemon does by itself, as long as the block runs."""
        duties = [
            self._expire_rules,
            self._expire_entries_of_lists,
            self._put_back_unconfirmed,
            self._write_history,
            self._keep_counts,
            self._follow_audits,
            self._update_feeds,
            self._watch_kernel,
            self._reload_on_signal,
            self._follow_senders,
            self._load_programs,
        ]
        if self._config.names_every_s is not None:
            duties.append(self._refresh_names)
        if self._notifier.watchdog_s is not None:
            duties.append(self._feed_watchdog)
        tasks = [asyncio.create_task(_for_ever(duty)) for duty in duties]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _followers(self) -> AsyncIterator[None]:
        """Follow the container engines, as long as the block runs."""
        loop = asyncio.get_running_loop()

        def publish(source: str, inventory: Inventory | None, state: str, asked_at: float) -> None:
            if loop.is_closed():
                return
            taking = self._engine_lines.run(
                self._engine.set_container_engine, source, inventory, state, asked_at
            )
            asyncio.run_coroutine_threadsafe(taking, loop).result()

        followers = [
            Follower(path, self._engine.wants_containers, publish)
            for path in self._engine.container_engines
        ]
        for follower in followers:
            follower.start()
        try:
            yield
        finally:
            for follower in followers:
                follower.stop()

    async def _load_programs(self) -> None:
        """Have programs follow that the start left for later; that is done once."""
        await self._engine_lines.change(self._engine.load_programs)
        await asyncio.get_running_loop().create_future()

    async def _expire_rules(self) -> None:
        """Wait until the next dynamic rule ends, or until another one may be the next."""
        self._changed.clear()
        deadline = await self._engine_lines.run(self._engine.next_expiry)
        try:
            async with asyncio.timeout(_seconds_until(deadline)):
                await self._changed.wait()
        except TimeoutError:
            await self._engine_lines.run(self._engine.expire)

    async def _expire_entries_of_lists(self) -> None:
        """The same for entries of lists, whose ends are times of the wall clock, which may jump."""
        self._lists_changed.clear()
        end = await self._engine_lines.change(self._engine.next_list_end)
        wait_s = None if end is None else min(max(LEAST_WAIT_S, end - time.time()), CLOCK_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._lists_changed.wait()
        except TimeoutError:
            await self._engine_lines.change(self._engine.expire_lists)

    async def _put_back_unconfirmed(self) -> None:
        """Wait until the time to confirm a change is over, and put the change back.

        The time also runs while the host sleeps, and the loop's does not, so it looks now and then.
        """
        self._changes_made.clear()
        due_s = self._engine.unconfirmed_due_in()
        wait_s = None if due_s is None else min(due_s, LOOK_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._changes_made.wait()
        except TimeoutError:
            if due_s is not None and due_s <= LOOK_S:
                await self._engine_lines.change(self._engine.put_back_if_due)

    async def _write_history(self) -> None:
        """Wait until rows of the history are over, and write them.

        Once a row is begun, others wait for it, so bans cost one look a second here.
        """
        self._rows_begun.clear()
        due_s = self._engine.history_due_in()
        if due_s is None:
            await self._rows_begun.wait()
            return
        await asyncio.sleep(due_s)
        await self._engine_lines.change(self._engine.write_history)

    async def _keep_counts(self) -> None:
        """Have what rules have matched written now and then, and after another policy came."""
        self._counters_changed.clear()
        if not self._engine.counts_are_behind:
            try:
                async with asyncio.timeout(max(0.0, self._counts_due - time.monotonic())):
                    await self._counters_changed.wait()
            except TimeoutError:
                pass
            else:
                return
        self._counts_due = time.monotonic() + COUNTS_S
        await self._engine_lines.change(self._engine.keep_counts)

    async def _follow_audits(self) -> None:
        """Record what audits note while there are any. They also come and go without a call."""
        self._audits_changed.clear()
        self._hearing.follow()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AUDITS_S):
                await self._audits_changed.wait()

    def _tell_of_change(self) -> None:
        """Have the next end of anything looked up anew soon: a call may have changed it."""
        if not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_later(TELLING_S, self._tell_duties)

    def _tell_duties(self) -> None:
        self._is_telling = False
        self._changed.set()
        self._lists_changed.set()
        self._feeds_changed.set()
        self._changes_made.set()
        self._rows_begun.set()
        self._counters_changed.set()
        self._audits_changed.set()

    async def _update_feeds(self) -> None:
        """Wait until the next list that comes from a URL is due, and have it updated."""
        self._feeds_changed.clear()
        due = await self._engine_lines.change(self._engine.next_feed)
        wait_s = None if due is None else min(max(LEAST_WAIT_S, due[0] - time.time()), CLOCK_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._feeds_changed.wait()
        except TimeoutError:
            if due is not None and due[0] <= time.time():
                await self._update(due[1])

    async def _update(self, name: str) -> None:
        parameters = {"name": name, "accept": False}
        try:
            reply = await self._calls.carry_out("UpdateList", parameters, "its schedule")
        except IpsecdError as error:
            record(logging.WARNING, "feed-not-updated", list=name, reason=error.message)
        else:
            record(logging.INFO, "feed-updated", list=name, message=reply["outcome"]["message"])

    async def _watch_kernel(self) -> None:
        """Wait for news from the kernel, and have the engine read them."""
        if not self._watch_again:
            descriptor = await self._engine_lines.run(self._engine.watch_fd)
            await wait_readable(descriptor)
        # If this fails it is tried again without waiting for news: those have been read already.
        self._watch_again = True
        await self._engine_lines.run(self._engine.watch)
        self._watch_again = False
        await asyncio.sleep(WATCH_PAUSE_S)

    async def _follow_senders(self) -> None:
        """Look for services that were started or stopped: control groups send no news of that."""
        if await self._engine_lines.run(self._engine.follow_senders):
            await self._engine_lines.change(self._engine.keep_last_good)
        await asyncio.sleep(SENDERS_S)

    async def _reload_on_signal(self) -> None:
        """Wait for SIGHUP, and read the policy files again."""
        await self._reload_wanted.wait()
        self._reload_wanted.clear()
        self._notifier.reloading()
        status = "serving; ipsecctl status says what is in force"
        try:
            await self._calls.carry_out("Reload", {"resolve": False}, "signal SIGHUP")
            record(logging.INFO, "reloaded", by="signal SIGHUP")
        except IpsecdError as error:
            status = f"the last reload was refused: {error.message}"
            record(logging.ERROR, "reload-refused", reason=error.message, hint=error.hint)
        finally:
            self._notifier.ready(status)

    async def _refresh_names(self) -> None:
        """Wait for the time that the settings name, and look all names in force up again."""
        assert self._config.names_every_s is not None
        await asyncio.sleep(self._config.names_every_s)
        await self._calls.carry_out("RefreshNames", {}, "setting names")

    async def _feed_watchdog(self) -> None:
        """Tell the service manager that the loop and the engine's thread are alive."""
        interval = self._notifier.watchdog_s
        assert interval is not None
        begun = time.monotonic()
        await self._engine_lines.run(self._engine.ping)
        self._notifier.watchdog()
        await asyncio.sleep(max(0.0, begun + interval / 2 - time.monotonic()))


async def _for_ever(duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Repeat `duty`; an error in it is logged, and it is tried again after a second."""
    while True:
        try:
            await duty()
        except IpsecdError as error:
            record(
                logging.ERROR, "duty-failed", duty=duty.__name__.strip("_"), reason=error.message
            )
            await asyncio.sleep(RETRY_S)
        except Exception as error:  # noqa: BLE001 - the daemon goes on without this round
            record_bug("bug", error, duty=duty.__name__.strip("_"))
            await asyncio.sleep(RETRY_S)


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(LEAST_WAIT_S, deadline - time.monotonic())
