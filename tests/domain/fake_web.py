"""A web server that serves a directory, remembers what was asked, and can misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Misbehave = Callable[["Handler"], bool]
"""Answers a request in its own way, or gives False."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWeb

    def do_GET(self) -> None:
        if any(answers(self) for answers in list(self.server.misbehave)):
            return
        path = self.server.directory / self.path.lstrip("/")
        if not path.is_file():
            self.answer(404, b"not found")
            return
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self.answer(304, b"", ETag=tag)
        else:
            self.answer(200, data, ETag=tag)

    def do_POST(self) -> None:
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(204, b"")

    def do_CONNECT(self) -> None:
        self.answer(501, b"")

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.server.answered.append((status, self.path))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 304:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class FakeWeb(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        self.answered: list[tuple[int, str]] = []
        self.posted: list[bytes] = []
        self.misbehave: list[Misbehave] = []
        self.tls = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is none of the test's business."""


@contextlib.contextmanager
def fake_web(directory: Path, context: ssl.SSLContext | None = None) -> Iterator[FakeWeb]:
    server = FakeWeb(directory)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.tls = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def garbage(handler: Handler) -> bool:
    """No HTTP at all."""
    handler.wfile.write(b"\x00\xff\r\n\r\n" * 100)
    handler.close_connection = True
    return True


def endless(handler: Handler) -> bool:
    """A body that does not end, without a length."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x" * 65536)
    handler.close_connection = True
    return True


def dripping(handler: Handler) -> bool:
    """A byte now and then, for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.1)
    handler.close_connection = True
    return True


def truncated(handler: Handler) -> bool:
    """Less than was announced."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{"signed"')
    handler.close_connection = True
    return True


def broken(handler: Handler) -> bool:
    """Of no use today."""
    handler.answer(500, b"no")
    return True


def without_end(handler: Handler) -> bool:
    """A redirect to itself."""
    handler.answer(302, b"", Location=handler.path)
    return True


def encoded(handler: Handler) -> bool:
    """Compressed, though nobody asked for it."""
    handler.answer(200, b"\x1f\x8b", Content_Encoding="gzip")
    return True


def redirect_to(location: str) -> Misbehave:
    def answer(handler: Handler) -> bool:
        handler.answer(302, b"", Location=location + handler.path)
        return True

    return answer
