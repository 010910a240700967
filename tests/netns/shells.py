"""A login over SSH, by a real client and a real server, in which commands are typed."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netns.site import OUTSIDE, PATIENCE, Daemon, Namespace, eventually

SILENCE_S = 0.6 * PATIENCE
"""A connection that answers nothing for so long is cut; an answer takes some milliseconds."""
ANSWER_S = 60.0 * PATIENCE


class Shell:
    """A shell at the other end of a connection."""

    def __init__(self, process: subprocess.Popen[bytes], daemon: Daemon) -> None:
        self._process = process
        self._daemon = daemon
        self._number = 0
        self._said = b""

    def type(self, line: str) -> tuple[int, str]:
        """Run a command; its exit code, and what it prints."""
        said = self._answer(f"{line} 2>&1 </dev/null; echo {{}}=$?", ANSWER_S)
        assert said is not None, line
        text, code = said
        return int(code), text

    def ctl(self, *words: str, before: str = "") -> tuple[int, str]:
        """Run ``ipsecctl``; `before` stands before it."""
        return self.type(f"{self._setting}; {before} {self._command(words)}")

    def is_cut_by(self, *words: str) -> bool:
        """Whether ``ipsecctl`` cuts the connection: it is run, and nothing more is heard."""
        done = self._daemon.directory / "done"
        done.unlink(missing_ok=True)
        command = f"{self._command(words)} >/dev/null 2>&1 </dev/null"
        self._write(f"{self._setting}; {command}; touch {done}")
        assert eventually(done.exists, ANSWER_S)
        return not self.answers()

    @property
    def _setting(self) -> str:
        return f"export IPSECD_SOCKET={self._daemon.environment['IPSECD_SOCKET']}"

    def _command(self, words: tuple[str, ...]) -> str:
        return shlex.join([sys.executable, "-m", "ipsecctl", *words])

    def answers(self, seconds: float = SILENCE_S) -> bool:
        """Whether what is typed comes through, and its answer back."""
        return self._answer("echo {}=0", seconds) is not None

    def recovers(self) -> bool:
        """Whether the connection goes on after a while: what got lost is sent again."""
        return self.answers(ANSWER_S)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, line: str, seconds: float) -> tuple[str, str] | None:
        """What was printed before the mark of this line, and what stands behind it."""
        self._number += 1
        mark = f"mark{self._number}"
        assert self._process.stdout is not None
        self._write(line.format(mark))
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                text, found, rest = self._said.decode().rpartition(f"{mark}=")
                if found and "\n" in rest:
                    self._said = b""
                    return text, rest.partition("\n")[0]
                if selector.select(left):
                    piece = os.read(self._process.stdout.fileno(), 65536)
                    assert piece, "the connection has ended"
                    self._said += piece
        return None


@contextmanager
def shell(
    daemon: Daemon, directory: Path, address: str, port: int = 22, where: Namespace = OUTSIDE
) -> Iterator[Shell]:
    """A login at an address, with the key in the directory of the server."""
    options = {
        "IdentityFile": str(directory / "key"),
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "BatchMode": "yes",
        "ConnectTimeout": str(int(20 * PATIENCE)),
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with subprocess.Popen(
        [*where, "ssh", "-F", "/dev/null", *words, "-p", str(port), f"root@{address}", "sh"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            opened = Shell(process, daemon)
            assert opened.recovers()
            yield opened
        finally:
            process.kill()
