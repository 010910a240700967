"""A daemon on a Unix socket that has only the methods for a fetcher, and verifies what it takes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ipsecd.errors import IpsecdError
from ipsecd.protocol.description import CONTROL
from ipsecd.protocol.errors import to_wire
from ipsecd_domain.bundle import read_bundle
from ipsecd_domain.selection import Host
from ipsecd_domain.trusted import refresh

PATIENCE_S = 30.0


class FakeDaemon:
    """What is in force, and what the fetcher said; ``answers`` replaces the bytes of a reply."""

    def __init__(self, path: Path, root: bytes, **settings: Any) -> None:
        self.path = path
        self.settings = {"host": "web1", "groups": [], "labels": {}, **settings}
        self.trusted = {"root.json": root.decode()} if root else {}
        self.policy = self.digest = self.problem = ""
        self.version, self.withdrawn, self.refresh = 0, False, 0
        self.taken: list[str] = []
        self.reports: list[str] = []
        self.waiting = 0
        self.wanted: list[tuple[int, list[str]]] = []
        self.answered: dict[tuple[int, str], tuple[list[str], str]] = {}
        self.answers: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """End as a crash does: every connection is cut."""
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.notify_all()

    def ask(self) -> int:
        """Ask for a refresh, as `ipsecctl domain refresh` does; its number."""
        with self._changed:
            self.refresh += 1
            self._changed.notify_all()
            return self.refresh

    def want(self, number: int, *names: str) -> None:
        """Ask for names, as a change of rules does."""
        with self._changed:
            self.wanted.append((number, list(names)))
            self._changed.notify_all()

    def wait(
        self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S
    ) -> float:
        """Return once `condition` holds, with the seconds that it took."""
        started = time.monotonic()
        with self._changed:
            while not condition():
                left = started + timeout_s - time.monotonic()
                assert left > 0, f"not in time: {what}; {self.reports[-3:]}"
                self._changed.wait(min(left, 0.05))
        return time.monotonic() - started

    def wait_for_policy(self, name: str, timeout_s: float = PATIENCE_S) -> float:
        return self.wait(lambda: self.policy == name, f"policy {name}", timeout_s)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received, descriptors = b"", []
        with contextlib.suppress(OSError), connection:
            while True:
                while b"\0" not in received:
                    piece, passed, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                    descriptors += passed
                    if not piece:
                        return
                    received += piece
                frame, _, received = received.partition(b"\0")
                call = json.loads(frame)
                method = call["method"].removeprefix(f"{CONTROL}.")
                if method in self.answers:
                    connection.sendall(self.answers[method])
                    continue
                if method == "AwaitNames":
                    self._await_names(connection)
                    return
                if method == "AwaitFeeds":
                    self._want_nothing()
                    return
                if method == "AwaitDomain":
                    self._await(connection, call["parameters"]["refresh"])
                    return
                try:
                    reply = {"parameters": self._answer(method, call["parameters"], descriptors)}
                except IpsecdError as error:
                    reply = to_wire(error)
                with self._changed:
                    self._changed.notify_all()
                connection.sendall(json.dumps(reply).encode() + b"\0")
        self._connections.discard(connection)

    def _await(self, connection: socket.socket, after: int) -> None:
        listener = self._listener
        with self._changed:
            self.waiting += 1
            while self._listener is listener:
                while self.refresh <= after:
                    self._changed.wait(0.1)
                after = self.refresh
                reply = {"parameters": {"refresh": after}, "continues": True}
                connection.sendall(json.dumps(reply).encode() + b"\0")

    def _want_nothing(self) -> None:
        """Wait until this daemon ends."""
        listener = self._listener
        with self._changed:
            while self._listener is listener and listener is not None and listener.fileno() >= 0:
                self._changed.wait(0.1)

    def _await_names(self, connection: socket.socket) -> None:
        listener = self._listener
        while True:
            with self._changed:
                while not self.wanted and self._listener is listener:
                    self._changed.wait(0.1)
                if self._listener is not listener:
                    return
                number, names = self.wanted.pop(0)
            reply = {"parameters": {"number": number, "names": names}, "continues": True}
            connection.sendall(json.dumps(reply).encode() + b"\0")

    def _answer(
        self, method: str, parameters: dict[str, Any], descriptors: list[int]
    ) -> dict[str, Any]:
        if method == "GetDomain":
            return {"domain": self._domain()}
        if method == "ReportDomain":
            self.problem = parameters["problem"]
            self.reports.append(self.problem)
            return {}
        if method == "AnswerNames":
            for answer in parameters["answers"]:
                key = (parameters["number"], answer["name"])
                self.answered[key] = (answer["addresses"], answer["problem"])
            return {}
        assert method == "TakeDomain"
        with os.fdopen(descriptors.pop(), "rb") as file:
            file.seek(0)
            self._take(file.read())
        return {"outcome": {"changed": True, "message": f"policy {self.policy!r}"}}

    def _take(self, data: bytes) -> None:
        host = Host(
            self.settings["host"],
            tuple(self.settings["groups"]),
            tuple(sorted(self.settings["labels"].items())),
        )
        refreshed = refresh(self.trusted, host, read_bundle(json.loads(data)).fetch)
        self.trusted = dict(refreshed.trusted)
        self.version, self.problem = refreshed.version, ""
        self.withdrawn = refreshed.outcome == "withdrawn"
        if refreshed.outcome != "nothing":
            self.policy, self.digest = refreshed.policy, refreshed.sha256
        self.taken.append(self.policy)

    def _domain(self) -> dict[str, Any]:
        return {
            **self.settings,
            "trusted": self.trusted,
            "policy": self.policy,
            "digest": self.digest,
            "version": self.version,
            "withdrawn": self.withdrawn,
            "problem": self.problem,
            "refresh": self.refresh,
        }


@contextlib.contextmanager
def fake_daemon(directory: Path, root: bytes, **settings: Any) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(directory / "ipsecd.sock", root, **settings)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
