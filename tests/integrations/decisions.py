"""Owns CrowdSec's local API as bouncers see it, and the decisions that it tells them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.netns.site import PATIENCE

KEY = "the key of a bouncer"


def decision(value: str, duration: str = "4h", **changes: Any) -> dict[str, Any]:
    """A decision to ban, as CrowdSec tells it."""
    scope = "Range" if "/" in value else "Ip"
    made = {"id": 1, "origin": "crowdsec", "scenario": "crowdsecurity/ssh-bf", "type": "ban"}
    return {**made, "scope": scope, "value": value, "duration": duration, **changes}


class LocalApi:
    """Decisions that are in force, and what is new since the bouncer asked last.

    ``GET /v1/decisions/stream`` tells what was new and deleted since the last answer; with
    ``startup=true`` all that are in force.
    """

    def __init__(self) -> None:
        self.in_force: dict[str, dict[str, Any]] = {}
        self._new: list[dict[str, Any]] = []
        self._deleted: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._asked = threading.Semaphore(0)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                if url.path != "/v1/decisions/stream" or self.headers["X-Api-Key"] != KEY:
                    self.send_error(403)
                    return
                startup = parse_qs(url.query).get("startup") == ["true"]
                content = json.dumps(api.answer(startup=startup)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, *, startup: bool) -> dict[str, Any]:
        with self._lock:
            new = list(self.in_force.values()) if startup else self._new
            told = {"new": new, "deleted": self._deleted}
            self._new, self._deleted = [], []
        self._asked.release()
        return told

    def add(self, *decisions: dict[str, Any]) -> None:
        with self._lock:
            self.in_force.update({each["value"]: each for each in decisions})
            self._new.extend(decisions)

    def delete(self, *values: str) -> None:
        with self._lock:
            gone = [self.in_force.pop(value) for value in values]
            self._deleted.extend({**each, "duration": "-1m"} for each in gone)

    def wait_for_question(self) -> None:
        """Return once the bouncer has asked once more."""
        while self._asked.acquire(blocking=False):
            pass
        assert self._asked.acquire(timeout=30 * PATIENCE)


@contextmanager
def local_api(decisions: Sequence[dict[str, Any]] = ()) -> Iterator[LocalApi]:
    api = LocalApi()
    api.add(*decisions)
    thread = threading.Thread(target=api.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        thread.join()
        api.server.server_close()
