"""Owns a daemon whose counters run and that reports packets, to many callers at a time."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from importlib import resources
from pathlib import Path
from typing import Any

from ipsecd import protocol
from ipsecd.protocol.description import CONTROL, parse_interface
from ipsecd.protocol.errors import VarlinkError, method_not_found, to_wire
from ipsecd.protocol.interface import Interface
from tests.ctl.fake_daemon import COUNT, EXPLANATION
from tests.seen import SEEN

MONITOR = """
type SeenPacket (
  at: string, action: string, store: ?string, policy: ?string, rule: ?string, filter: ?string,
  list: ?string, entry: ?string, direction: string, interface: ?string, packet: string,
  protocol: string, source: string, source_port: ?int, destination: string,
  destination_port: ?int, icmp: ?string, flags: ?string, length: int, process: ?string,
  container: ?string, head: string, link_type: int
)
method Monitor(rules: ?[]string, rate: ?int) -> (packets: []SeenPacket, blocked: int, lost: int)
"""


def seen(source: str, **changes: Any) -> dict[str, Any]:
    """A packet of `source` that was reported."""
    packet = f"tcp {source}:4000 > 192.0.2.1:80 in eth0"
    return {**SEEN, "source": source, "packet": packet, **changes}


def counted(rule: str, packets: int, **changes: Any) -> dict[str, Any]:
    """The counters of a rule."""
    return {**COUNT, "rule": rule, "packets": packets, "bytes": packets * 40, **changes}


def _interface() -> Interface:
    """The interface; the method that reports is added where it is not declared yet."""
    text = resources.files(protocol).joinpath(f"{CONTROL}.varlink").read_text("utf-8")
    return parse_interface(text if "method Monitor" in text else text + MONITOR)


class WatchedDaemon:
    """A daemon that answers ``Stats``, ``Monitor`` and ``Explain``.

    ``rules`` is what ``Stats`` answers next; `report` sends a reply to every ``Monitor``.
    ``reports`` is whether it has that method, ``explanation`` what it explains, and ``check``
    whether its answers are checked against the interface.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rules: list[dict[str, Any]] = [counted("Block web", 1000)]
        self.unparsable = 0
        self.reports = True
        self.check = True
        self.explanation: dict[str, Any] = EXPLANATION
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.broken: list[str] = []
        self._interface = _interface()
        self._monitors: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        self.start()

    def start(self) -> None:
        """Answer from now on."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, args=(self._listening,))
        self._thread.start()

    def stop(self) -> None:
        """End all connections and answer nobody, as a daemon that ends."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listening.close()
        self.path.unlink()
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.stop()
        assert self.broken == []

    def report(self, *packets: dict[str, Any], blocked: int | None = None, lost: int = 0) -> None:
        """Report packets to all who want it, as soon as anybody does."""
        numbers = {"blocked": len(packets) if blocked is None else blocked, "lost": lost}
        reply = {"packets": list(packets), **numbers}
        self._interface.check_reply("Monitor", reply)
        with self._changed:
            assert self._changed.wait_for(lambda: self._monitors, 60)
            for monitor in self._monitors:
                self._send(monitor, {"parameters": reply, "continues": True})

    def wait_for_calls(self, method: str, number: int) -> None:
        """Wait until `method` was called so often."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(called == method for called, _ in self.calls) >= number, 60
            )

    def _serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._answer_all, args=(connection,)).start()

    def _answer_all(self, connection: socket.socket) -> None:
        with self._changed:
            self._connections.add(connection)
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            received = b""
            while piece := file.read1(1 << 16):
                received += piece
                *frames, received = received.split(b"\0")
                for frame in frames:
                    self._answer(connection, json.loads(frame))
        with self._changed:
            self._connections.discard(connection)
            self._monitors.discard(connection)

    def _answer(self, connection: socket.socket, message: dict[str, Any]) -> None:
        method = message["method"].rpartition(".")[2]
        try:
            if method == "Monitor" and not self.reports:
                raise method_not_found(message["method"])
            parameters = self._interface.check_call(method, message["parameters"])
        except VarlinkError as error:
            if self.reports:
                self.broken.append(f"{message}: {error}")
            self._send(connection, to_wire(error))
            return
        with self._changed:
            self.calls.append((method, parameters))
            if method == "Monitor":
                assert message["more"]
                self._monitors.add(connection)
            else:
                self._send(connection, {"parameters": self._reply(method)})
            self._changed.notify_all()

    def _reply(self, method: str) -> dict[str, Any]:
        replies: dict[str, dict[str, Any]] = {
            "Stats": {"rules": self.rules, "unparsable": self.unparsable},
            "Explain": {"explanation": self.explanation},
        }
        reply = replies[method]
        if self.check:
            self._interface.check_reply(method, reply)
        return reply

    def _send(self, connection: socket.socket, reply: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(reply).encode() + b"\0")
