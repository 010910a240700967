"""The fetcher as a process of its own, and what it logged."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.netns.site import Namespace


class Fetching:
    """A running fetcher; ``log`` is all that it wrote so far."""

    def __init__(
        self, socket: Path, log: Path, environment: Mapping[str, str], where: Namespace = ()
    ) -> None:
        """`where` is a command that runs it in other namespaces, as the same process."""
        self._log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*where, sys.executable, "-m", "ipsecd_domain", "--socket", str(socket)],
                stderr=file,
                env={**os.environ, **environment},
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@contextlib.contextmanager
def fetching(socket: Path, log: Path, **environment: str) -> Iterator[Fetching]:
    fetcher = Fetching(socket, log, environment)
    try:
        yield fetcher
    finally:
        if fetcher.process.poll() is None:
            fetcher.kill()
