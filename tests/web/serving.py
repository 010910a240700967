"""Owns ``ipsecctl web`` as a process for tests, and plain requests to it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.web.stand_in import StandIn

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answered:
    """What came back, with the names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass
class Serving:
    """A page that is served: `place` is the URL with its token, or the path of a socket."""

    process: subprocess.Popen[str]
    place: str
    cookie: str = ""
    base: str = "/"

    @property
    def origin(self) -> str:
        parts = urlsplit(self.place)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def authority(self) -> str:
        return urlsplit(self.place).netloc

    @property
    def pages(self) -> str:
        """Below which URL the pages are."""
        return self.origin + self.base

    def enter(self) -> None:
        """Show the token, and keep the cookie."""
        answer = self.ask("/?" + urlsplit(self.place).query)
        assert answer.status == 303, answer
        self.base = answer.headers["location"]
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    def get(self, page: str, **headers: str) -> Answered:
        """A page as somebody sees it who may."""
        return self.ask(self.base + page, Cookie=self.cookie, **headers)

    def ask(self, target: str, method: str = "GET", **headers: str) -> Answered:
        """The answer to a request with no other headers than these; Host is right if absent."""
        named = {"Host": self.authority or "fleet.example", **headers}
        lines = [f"{name.replace('_', '-')}: {text}" for name, text in named.items() if text]
        return self.send("\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode())

    def send(self, data: bytes) -> Answered:
        """The answer to bytes."""
        received = b""
        with self.connect() as connection:
            connection.sendall(data)
            while piece := connection.recv(1 << 16):
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in rest]
        return Answered(int(first.split()[1]), {n.lower(): t for n, t in pairs}, body.decode())

    def connect(self) -> socket.socket:
        if self.place.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(PATIENCE_S)
            connection.connect(self.place)
            return connection
        parts = urlsplit(self.place)
        return socket.create_connection((parts.hostname, parts.port or 0), timeout=PATIENCE_S)


@contextmanager
def serving(path: Path, *options: str) -> Iterator[Serving]:
    """``ipsecctl web`` beside a daemon whose socket is at `path`."""
    words = [sys.executable, "-m", "ipsecctl", "--socket", str(path), "web", "--json"]
    with subprocess.Popen(
        [*words, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
            assert said, process.stderr and process.stderr.read()
            yield Serving(process, said["at"])
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""


def daemon_in(directory: Path) -> StandIn:
    """A daemon with a socket in `directory`."""
    return StandIn(directory / "ipsecd.sock")
