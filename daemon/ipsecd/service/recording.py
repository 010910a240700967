"""Owns the thread of the flight recorder, which writes, and follows this host's addresses.

It must not know what is recorded. Nothing else waits for this thread; it rests as long as it has
worked, so that what it does of many changes in a row takes little from those who make them.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from threading import Event, Thread

from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.host.address_news import AddressNews
from ipsecd.host.interfaces import HostReader
from ipsecd.log import record_bug

ROUND_S = 60.0
"""The longest time between two looks at what is due."""
SETTLING_S = 0.1
"""How long news of addresses are collected: they come in bursts."""
LONGEST_REST_S = 0.2
WRITTEN_S = 2.0
"""How long a question waits for what was noted just before it to be written."""


class Recording:
    """The thread; it begins with ``start`` and ends with ``stop``."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_ending = False
        self._idle = Event()
        self._read_host = HostReader()
        self._news: AddressNews | None = None
        self._around = Surroundings()
        self._thread = Thread(target=self._run, name="recorder", daemon=True)

    def look_around(self) -> Surroundings:
        """What this host is now; what changes from now on is followed."""
        if self._news is None:
            self._news = AddressNews()
        self._around = self._read()
        return self._around

    def start(self) -> None:
        """Begin to write."""
        self._recorder.told = self._tell
        self._recorder.written = self._wait
        self._thread.start()
        self._tell()

    def stop(self) -> None:
        """End the thread, and wait for it. What it has not written the recorder still has."""
        self._recorder.told = self._recorder.written = lambda: None
        self._is_ending = True
        self._wake_up()
        if self._thread.is_alive():
            self._thread.join()
        if self._news:
            self._news.close()
        os.close(self._wake)
        os.close(self._waker)

    def _tell(self) -> None:
        self._idle.clear()
        self._wake_up()

    def _wake_up(self) -> None:
        # A full pipe wakes as well.
        with suppress(BlockingIOError):
            os.write(self._waker, b".")

    def _wait(self) -> None:
        self._tell()
        self._idle.wait(WRITTEN_S)

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_ending:
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - the next round may fare better
                record_bug("bug", error, duty="recorder")
                time.sleep(LONGEST_REST_S)

    def _round(self) -> None:
        news = self._news
        poll = select.poll()
        for descriptor in (self._wake, *([news.fileno()] if news else [])):
            poll.register(descriptor, select.POLLIN)
        readable = {descriptor for descriptor, _ in poll.poll(ROUND_S * 1000)}
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)
        self._idle.clear()
        has_news = news is not None and news.fileno() in readable
        if news and has_news:
            time.sleep(SETTLING_S)
            news.drain()
        if has_news or not readable:
            # Routes alone deliver addresses here, too, and make no news.
            self._follow()
        self._write()
        self._idle.set()

    def _follow(self) -> None:
        now = self._read()
        if now != self._around:
            self._around = now
            self._recorder.moved(now)

    def _write(self) -> None:
        while not self._is_ending:
            begun = time.monotonic()
            if not self._recorder.work():
                return
            time.sleep(min(time.monotonic() - begun, LONGEST_REST_S))

    def _read(self) -> Surroundings:
        state = self._read_host()
        return Surroundings(state.host, state.types)
