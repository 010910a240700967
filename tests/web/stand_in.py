"""Owns the daemon that the page is tried with: it has many callers, and tells of packets."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

from ipsecd.errors import IpsecdError
from ipsecd.protocol.errors import method_not_found, to_wire
from tests.ctl.fake_daemon import FakeDaemon
from tests.seen import SEEN

OF_OTHERS = {"Monitor", "Drops", "ExplainAt"}
"""Methods that the daemon may be too old for."""
PACKET = {**SEEN, "length": 60}
SOURCE: dict[str, Any] = {
    "action": "block",
    "store": "static",
    "policy": "Web",
    "rule": "Block web",
    "source": "203.0.113.7",
    "packets": 1_234,
    "bytes": 74_040,
    "first": "2026-11-30T15:40:00.000000Z",
    "last": "2026-11-30T15:42:00.000000Z",
}
DROPS: dict[str, Any] = {
    "since": "2026-11-30T15:40:00.000000Z",
    "until": "2026-11-30T15:50:00.000000Z",
    "period_s": 60,
    "periods": [],
    "sources": [SOURCE],
    "samples": [],
    "blocked": 2_000,
    "lost": 766,
}
"""What a daemon tells that records drops."""


class StandIn(FakeDaemon):
    """``told`` has the replies to methods that the interface of this tree may not have.

    What is in ``replies`` need not keep to the interface where `strict` is false, as that of an
    older daemon or a hostile one does not.
    """

    def __init__(self, path: Path) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.tells_packets = True
        self.strict = True
        self._lock = threading.Condition()
        self._open: set[socket.socket] = set()
        self._followers: list[socket.socket] = []
        super().__init__(path)

    def close(self) -> None:
        self.hang_up()
        super().close()

    def hang_up(self) -> None:
        """End every connection, as a daemon does that ends."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._followers.clear()

    def followed(self, timeout_s: float = 30.0) -> None:
        """Wait until somebody follows the packets."""
        with self._lock:
            assert self._lock.wait_for(lambda: bool(self._followers), timeout_s)

    @property
    def followers(self) -> int:
        return len(self._followers)

    def tell(self, *packets: dict[str, Any], blocked: int = 1, lost: int = 0) -> None:
        """Tell all that follow of packets."""
        parameters = {"packets": list(packets), "blocked": blocked, "lost": lost}
        frame = json.dumps({"parameters": parameters, "continues": True}).encode() + b"\0"
        with self._lock:
            for follower in self._followers:
                with contextlib.suppress(OSError):
                    follower.sendall(frame)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not self.silent and (frame := self._receive(connection)):
                message = json.loads(frame)
                name = message["method"].rpartition(".")[2]
                if name == "Monitor" and self.tells_packets:
                    with self._lock:
                        self._followers.append(connection)
                        self._lock.notify_all()
                    continue
                connection.sendall(json.dumps(self._reply(name, message)).encode() + b"\0")
        with self._lock:
            self._open.discard(connection)
            if connection in self._followers:
                self._followers.remove(connection)

    def _reply(self, name: str, message: dict[str, Any]) -> dict[str, Any]:
        if name in self.told:
            self.calls.append((name, message["parameters"]))
            return {"parameters": self.told[name]}
        if name in OF_OTHERS:
            return to_wire(method_not_found(message["method"]))
        reply = self.replies.get(name)
        if not self.strict and reply is not None and not isinstance(reply, IpsecdError):
            return {"parameters": reply}
        return self._answer(message)
