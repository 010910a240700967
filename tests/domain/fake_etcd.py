"""One member of etcd, of which only what a doorbell needs is there, and which can misbehave."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASSWORD = "p@ss:/word"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEtcd

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked))
        if self.server.raw is not None:
            self.wfile.write(self.server.raw)
            self.close_connection = True
        elif self.path == "/v3/auth/authenticate":
            right = asked == {"name": "host", "password": PASSWORD}
            self._answer(
                {"token": "t0ken"} if right else {"error": "failed"}, 200 if right else 400
            )
        elif self.server.wants_login and self.headers.get("Authorization") != "t0ken":
            self._answer({"error": "etcdserver: user name is empty"}, 400)
        elif self.path == "/v3/kv/put":
            self.server.put(base64.b64decode(asked["value"]))
            self._answer({"header": {"revision": str(self.server.revision)}})
        elif self.path == "/v3/kv/range":
            value = self.server.value
            pairs = [{"value": base64.b64encode(value).decode()}] if value is not None else []
            self._answer({"header": {"revision": str(self.server.revision)}, "kvs": pairs})
        else:
            self._watch(int(asked["create_request"]["start_revision"]))

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, revision: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b'{"result":{"created":true}}\n')
        self.server.watching.set()
        with self.server.changed, contextlib.suppress(OSError):
            while not self.server.ended:
                if self.server.message is not None:
                    self._chunk(self.server.message)
                    self.close_connection = True
                    return
                if self.server.revision >= revision and self.server.value is not None:
                    value = base64.b64encode(self.server.value).decode()
                    revision = self.server.revision + 1
                    line = json.dumps({"result": {"events": [{"kv": {"value": value}}]}}).encode()
                    # A message is not one chunk, nor a chunk one message.
                    self._chunk(line[:20])
                    self._chunk(line[20:] + b"\n\n")
                self.server.changed.wait(0.05)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class FakeEtcd(ThreadingHTTPServer):
    """``raw`` is sent in place of every answer, ``message`` in place of those of watches."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.value: bytes | None = None
        self.revision = 1
        self.wants_login = False
        self.raw: bytes | None = None
        self.message: bytes | None = None
        self.asked: list[tuple[str, Any]] = []
        self.changed = threading.Condition()
        self.watching = threading.Event()
        self.ended = False

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def put(self, value: bytes) -> None:
        with self.changed:
            self.value = value
            self.revision += 1
            self.changed.notify_all()

    def handle_error(self, *_: object) -> None:
        """A client that went away is none of the test's business."""


@contextlib.contextmanager
def fake_etcd() -> Iterator[FakeEtcd]:
    server = FakeEtcd()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.ended = True
        server.shutdown()
        server.server_close()
