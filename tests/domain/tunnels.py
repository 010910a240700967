"""A web proxy that makes tunnels, as those do that firewalls leave the only way out."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 16


class Proxy:
    """Where it listens, and to whom it was asked for a tunnel."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                asked.append(self.path)
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as behind:
                    self.send_response(200)
                    self.end_headers()
                    _relay(self.connection, behind)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from either side, until one of them ends."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            piece = ready.recv(PIECE)
            if not piece:
                return
            (other if ready is one else one).sendall(piece)


@contextmanager
def tunnels() -> Iterator[Proxy]:
    """A running proxy."""
    proxy = Proxy()
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
