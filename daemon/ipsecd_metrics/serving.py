"""Owns the web server: who may connect and how many at a time; must not know any metric.

On a Unix socket only its user and group may connect. On an address everybody may who can reach it,
so it should be one that others cannot. Every page that a browser on this host shows reaches the
loopback, under a name that whoever made the page has point there: so there the header Host has to
name the loopback or this host. On other addresses nobody here knows by which names they are asked.
"""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

MOST_CLIENTS = 16
"""How many are answered at a time. Who comes then takes the place of whoever has been silent for
the longest, or is told to come back."""
ROOM_S = 1.0
"""How long it may take until such a place is free."""
CLIENT_S = 10.0
"""How long a client may take to ask, however often it says something, and to take the answer."""

Render = Callable[[str], tuple[bytes, str]]
"""What makes the body and its type for a header Accept."""

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server on an address and port, or a Unix socket."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, listen: str, render: Render) -> None:
        """`listen` is ``ADDRESS:PORT`` or a path; raises ``OSError``."""
        self.render = render
        self._room = threading.BoundedSemaphore(MOST_CLIENTS)
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, None] = {}
        address: Any = listen
        if listen.startswith("/"):
            self.address_family = socket.AF_UNIX
        else:
            host, _, port = listen.rpartition(":")
            self.address_family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
            address = host.strip("[]"), int(port)
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind the socket; one that an earlier process left is replaced."""
        if self.address_family != socket.AF_UNIX:
            super().server_bind()
            return
        path = Path(str(self.server_address))
        with suppress(FileNotFoundError):
            if path.is_socket():
                path.unlink()
        # Nobody may connect between the making of the socket and a change of its mode.
        before = os.umask(0o117)
        try:
            self.socket.bind(str(path))
        finally:
            os.umask(before)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many."""
        if not self._has_room():
            with suppress(OSError):
                request.setblocking(False)
                request.send(_BUSY)
            self.shutdown_request(request)
            return
        with self._lock:
            self._silent[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # There can be no more threads, and so none that would make room again.
            self._room.release()
            raise

    def _has_room(self) -> bool:
        """Whether there is room for one more, which who has not asked yet may have to make."""
        if self._room.acquire(blocking=False):
            return True
        with self._lock:
            if not self._silent:
                return False
            longest = next(iter(self._silent))
            del self._silent[longest]
            # Its thread reads the end of what it is asked, and so ends.
            with suppress(OSError):
                longest.shutdown(socket.SHUT_RDWR)
        return self._room.acquire(timeout=ROOM_S)

    def has_asked(self, request: Any) -> None:
        """Have a client who has asked stay until he is answered."""
        with self._lock:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """End a connection; its descriptor may be another's from then on."""
        self.has_asked(request)
        super().shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away or is silent is no event."""


class _Asking(io.RawIOBase):
    """What a client says until its time is over; then reading raises ``TimeoutError``."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come, or wait for it."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _name_in(host: str) -> str:
    """What a header Host names, without a port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


@cache
def _names_of_host() -> frozenset[str]:
    """What this host is called, which hosts files have stand for the loopback."""
    return frozenset({socket.gethostname().lower(), socket.getfqdn().lower()})


def _is_loopback(name: str) -> bool:
    """Whether this is an address of the loopback, or the name of it."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if address.version == 6 else None
    return (mapped or address).is_loopback


class Handler(BaseHTTPRequestHandler):
    """One client."""

    server: Server
    timeout = CLIENT_S
    server_version, sys_version = "ipsecd-metrics", ""

    def setup(self) -> None:
        """Have a client that says a little again and again end as one that is silent."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Asking(self.connection, self.timeout))

    def do_GET(self) -> None:
        """Answer with the metrics, under the one path that Prometheus asks by default."""
        self.server.has_asked(self.connection)
        if not self._is_named():
            text = b"this server has another name: ask 127.0.0.1, [::1] or localhost\n"
            self._answer(421, text, "text/plain; charset=utf-8")
            return
        if self.path.partition("?")[0] != "/metrics":
            self._answer(404, b"metrics are at /metrics\n", "text/plain; charset=utf-8")
            return
        self._answer(200, *self.server.render(self.headers.get("Accept", "")))

    def _is_named(self) -> bool:
        """Whether who asks over the loopback knows that he does."""
        host = self.headers.get("Host")
        if self.connection.family == socket.AF_UNIX or host is None:
            return True
        own = self.connection.getsockname()[0]
        name = _name_in(host).lower()
        return not _is_loopback(own) or _is_loopback(name) or name in _names_of_host()

    def _answer(self, code: int, body: bytes, kind: str) -> None:
        self.connection.settimeout(self.timeout)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server names it so
        """Say nothing: scrapes come all the time."""
