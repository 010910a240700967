"""Owns the talk with the daemon, a question at a time; must not know what becomes of an answer.

https://varlink.org: a call and its reply are JSON objects, each ended by NUL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.protocol.connecting import connected, send_frame
from ipsecd.protocol.description import CONTROL
from ipsecd.protocol.errors import from_wire
from ipsecd.protocol.frames import FrameDecoder, ProtocolError, encode_frame
from ipsecd.quoting import quote_path

ANSWER_S = 30.0
MAX_REPLY_BYTES = 64 << 20
FRESH_S = 1.0
"""How long an answer is given again: many who ask at once cost the daemon no more than one."""
_CHUNK = 1 << 16

Metrics = Mapping[str, Any]


class Unreachable(BackendFailed):
    """The daemon does not answer."""


def ask(path: str) -> Metrics:
    """What the daemon behind the socket at `path` tells of itself; raises ``IpsecdError``."""
    try:
        with closing(connected(path, ANSWER_S)) as connection:
            send_frame(connection, encode_frame({"method": f"{CONTROL}.Metrics"}))
            decoder = FrameDecoder(MAX_REPLY_BYTES)
            while (reply := decoder.next_message()) is None:
                received = connection.recv(_CHUNK)
                if not received:
                    raise ConnectionError("it closed the connection")
                decoder.feed(received)
    except (OSError, ProtocolError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it does not answer"
        raise Unreachable(
            f"ipsecd cannot be asked at {quote_path(path)}: {reason}",
            "look whether it runs: systemctl status ipsecd",
        ) from error
    parameters = reply.get("parameters") or {}
    if "error" in reply:
        raise from_wire(str(reply["error"]), parameters)
    metrics: Metrics = parameters["metrics"]
    return metrics


class Answers:
    """What the daemon told last, as long as it is fresh; for any thread."""

    def __init__(
        self, question: Callable[[], Metrics], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`question` asks the daemon; `clock` is monotonic, in seconds."""
        self._ask = question
        self._clock = clock
        self._lock = threading.Lock()
        self._answer: Metrics | None = None
        self._asked_at = -FRESH_S

    def latest(self) -> Metrics | None:
        """What the daemon tells; None if it does not answer."""
        with self._lock:
            if self._clock() - self._asked_at >= FRESH_S:
                try:
                    self._answer = self._ask()
                except IpsecdError:
                    self._answer = None
                self._asked_at = self._clock()
            return self._answer
