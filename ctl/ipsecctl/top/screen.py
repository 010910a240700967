"""Owns a terminal for as long as something is drawn on it: keys as they are typed, and its size.

Must not know what is drawn. However it ends, the terminal is as it was before: by an exception, by
SIGTERM, SIGHUP or SIGINT, and while it is stopped with Ctrl-Z. Only in the main thread.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from ipsecd.output import leave_screen

ENDING = (signal.SIGTERM, signal.SIGHUP)
_GUARDED = (*ENDING, signal.SIGINT, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
_MOST_BYTES = 1024


class Ended(Exception):
    """A signal ends the program; `code` is the exit code, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class Screen:
    """A terminal that keys are read from one by one, and that is put back at the end."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}
        # A thread that writes while the pipe is closed would write into whatever is opened next.
        self._lock = threading.RLock()
        self._open = True
        self._heard, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._heard, False)

    def __enter__(self) -> Self:
        # No signal comes between what is changed here and what puts it back.
        signal.pthread_sigmask(signal.SIG_BLOCK, _GUARDED)
        self._take()
        meant: dict[int, Callable[[int, FrameType | None], None]] = {
            **dict.fromkeys(ENDING, self._end),
            signal.SIGTSTP: self._stop,
            signal.SIGWINCH: self._resized,
        }
        self._handlers = {number: signal.signal(number, do) for number, do in meant.items()}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _GUARDED)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _GUARDED)
        self._put_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _GUARDED)
        with self._lock:
            self._open = False
            os.close(self._heard)
            os.close(self._wake)

    def wake(self) -> None:
        """Have ``read`` return; may be called in any thread."""
        with self._lock, suppress(BlockingIOError):  # it is about to return already, then
            if self._open:
                os.write(self._wake, b"\0")

    def read(self, timeout_s: float) -> bytes:
        """What was typed; b"" after `timeout_s`, or when something else is to be looked at.

        Raises ``Ended`` if the terminal is gone.
        """
        ready, _, _ = select.select([self._fd, self._heard], [], [], timeout_s)
        if self._heard in ready:
            os.read(self._heard, _MOST_BYTES)
        if self._fd not in ready:
            return b""
        try:
            typed = os.read(self._fd, _MOST_BYTES)
        except OSError as error:
            raise Ended(signal.SIGHUP) from error
        if not typed:
            raise Ended(signal.SIGHUP)
        return typed

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._fd)
        raw = termios.tcgetattr(self._fd)
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)

    def _put_back(self) -> None:
        leave_screen()
        # A terminal that is gone has nothing that could be put back.
        with suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _end(self, number: int, _: FrameType | None) -> None:
        # One is enough: nothing may end the way out.
        for ending in ENDING:
            signal.signal(ending, signal.SIG_IGN)
        raise Ended(number)

    def _stop(self, *_: object) -> None:
        """Give the terminal back, stop, and take it again when the program goes on."""
        self._put_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self.wake()

    def _resized(self, *_: object) -> None:
        self.wake()
