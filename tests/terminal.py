"""Owns commands that are run in a terminal of their own, where somebody types answers."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

PATIENCE_S = 60.0
"""How long a screen is waited for, on a machine that is busy with other tests."""


def at_a_terminal(
    words: tuple[str, ...], environment: Mapping[str, str], typed: str = ""
) -> tuple[int, str]:
    """The exit code of ``ipsecctl`` at a terminal, and all that was to be seen there.

    What is `typed` waits in the terminal until it is asked for.
    """
    own, terminal = pty.openpty()
    os.write(own, typed.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "ipsecctl", *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    # A terminal that nobody has open any more answers with an error.
    with suppress(OSError):
        while piece := os.read(own, 4096):
            seen += piece
    os.close(own)
    return process.wait(), seen.decode().replace("\r\n", "\n")


class Terminal:
    """``ipsecctl`` at a terminal of some size, which is read while it runs."""

    def __init__(
        self, words: tuple[str, ...], columns: int = 80, lines: int = 24, **environment: str
    ) -> None:
        self._own, terminal = pty.openpty()
        self._terminal = terminal
        self.resize(columns, lines)
        self.modes = termios.tcgetattr(terminal)
        # The first terminal that a session opens is its own, so that keys are signals to it.
        opening = ("/bin/sh", "-c", 'exec "$@" <$0 >$0 2>&1', os.ttyname(terminal))
        self.process = subprocess.Popen(
            [*opening, sys.executable, "-m", "ipsecctl", *words],
            env={**os.environ, "TERM": "xterm", **environment},
            start_new_session=True,
        )
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size, of which the kernel tells the processes in front."""
        termios.tcsetwinsize(self._own, (lines, columns))

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._terminal)

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The lines of the first screen that `holds` is true of."""
        end_s = time.monotonic() + PATIENCE_S
        while not holds(lines := self.screen()):
            left_s = end_s - time.monotonic()
            assert left_s > 0, "\n".join(lines) or self.seen
            self._read(left_s)
        return lines

    def shows(self, *texts: str) -> list[str]:
        """The lines of the first screen that has all of `texts`."""
        return self.until(lambda lines: all(text in "\n".join(lines) for text in texts))

    def fills(self, columns: int, lines: int) -> list[str]:
        """The lines of the first screen of that size; its first line is a whole one."""
        return self.until(
            lambda shown: bool(shown) and (len(shown[0]), len(shown)) == (columns, lines)
        )

    def screen(self) -> list[str]:
        """The lines of the last whole screen, without colours; none if none is shown."""
        _, opened, since = self.seen.rpartition("\x1b[?1049h")
        if not opened or "\x1b[?1049l" in since:
            return []
        frames = [frame for frame in since.split("\x1b[H") if frame.endswith("\x1b[K\x1b[J")]
        if not frames:
            return []
        text = frames[-1].removesuffix("\x1b[K\x1b[J").replace("\r", "")
        return [re.sub("\x1b\\[[0-9;]*m", "", line) for line in text.split("\x1b[K\n")]

    def ended(self) -> tuple[int, str]:
        """The exit code, and what the terminal showed outside of the screens."""
        while self.process.poll() is None:
            self._read(0.1)
        while select.select([self._own], [], [], 0)[0]:
            self._read(0)
        outside = re.sub("(?s)\x1b\\[\\?1049h.*?\x1b\\[\\?1049l", "", self.seen)
        return self.process.returncode, outside.replace("\r\n", "\n")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)
        os.close(self._terminal)

    def _read(self, timeout_s: float) -> None:
        if select.select([self._own], [], [], timeout_s)[0]:
            self.seen += self._decoder.decode(os.read(self._own, 1 << 16))
