"""Owns the talk with the daemon, a Varlink call at a time; must not know what calls are about.

https://varlink.org: a call and its reply are JSON objects, each ended by NUL.
"""

from __future__ import annotations

import os

from ipsecctl.failures import UnreachableError, UsageError
from ipsecctl.quick_json import dumps, loads
from ipsecd.output import change_made
from ipsecd.protocol.connecting import DEFAULT_PATH, connected, send_frame
from ipsecd.quoting import quote, quote_path

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    Hear = Callable[[dict[str, Any]], None]

INTERFACE = "io.ipsecd.control"
TIMEOUT_S = 120.0
_CHUNK = 1 << 16
_SHUT_RDWR = 2
"""That of <sys/socket.h>; the module that names it is slow to import."""
READS = (
    "Get",
    "List",
    "Status",
    "Stats",
    "Explain",
    "Examine",
    "AwaitStart",
    "Monitor",
    "Drops",
    "Audited",
    "Metrics",
)
"""A method whose name begins with one of these words changes nothing."""


class Client:
    """A connection to the daemon. The first call opens it."""

    def __init__(
        self,
        path: str | None = None,
        timeout_s: float = TIMEOUT_S,
        change: dict[str, Any] | None = None,
    ) -> None:
        """`path` is the path of the socket; None: that in ``IPSECD_SOCKET``, else the default.

        `change` is how every change is to be made that is asked for.
        """
        self._change = change
        self.waits_to_be_confirmed = False
        """Whether a change was made that somebody has to confirm."""
        self._timeout_s = timeout_s
        self.path = path or os.environ.get("IPSECD_SOCKET") or DEFAULT_PATH
        self._socket: _socket.socket | None = None
        self._received = b""

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
        hear: Hear | None = None,
    ) -> dict[str, Any]:
        """What `method` answers to `parameters`; `descriptor` is an open file that goes with them.

        With `hear` the daemon is asked to send replies before the last one too, and `hear` is
        called with the parameters of each. Raises ``UnreachableError``, or the daemon's own error
        as the daemon worded it, or ``UsageError`` for text that cannot be sent.
        """
        parameters = parameters or {}
        if self._change and not method.startswith(READS):
            parameters = {**parameters, "change": self._change}
        message: dict[str, Any] = {
            "method": f"{INTERFACE}.{method}",
            "parameters": parameters,
        }
        if hear is not None:
            message["more"] = True
        try:
            frame = dumps(message).encode() + b"\0"
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{quote(error.object[error.start : error.end])} in an argument is not text",
                "write names and filters in UTF-8",
            ) from error
        try:
            reply = self._exchange(frame, descriptor, hear)
        except TimeoutError as error:
            raise UnreachableError(
                f"the daemon did not answer within {self._timeout_s:g} s",
                "whether it did what was asked is not known: see 'ipsecctl status'",
            ) from error
        except (ConnectionError, ValueError) as error:
            raise self._no_answer() from error
        if "error" in reply:
            from ipsecd.protocol.errors import from_wire

            raise from_wire(str(reply["error"]), reply.get("parameters") or {})
        answer: dict[str, Any] = reply.get("parameters") or {}
        if not (method.startswith(READS) or parameters.get("dry_run")):
            change_made()
            self.waits_to_be_confirmed = bool(self._change and self._change.get("confirm_s"))
        return answer

    def _exchange(self, frame: bytes, descriptor: int | None, hear: Hear | None) -> dict[str, Any]:
        """Send a call; its last reply."""
        try:
            connection = self._socket = self._socket or self._connect()
            send_frame(connection, frame, descriptor)
            reply = self._reply(connection)
            while hear is not None and reply.get("continues") is True:
                hear(reply.get("parameters") or {})
                reply = self._reply(connection)
        except BaseException:
            # A reply that comes later would be taken for that of the next call.
            self.close()
            raise
        return reply

    def close(self) -> None:
        """End the connection; the next call opens another."""
        connection, self._socket, self._received = self._socket, None, b""
        if connection:
            connection.close()

    def interrupt(self) -> None:
        """End what another thread waits for in ``call``, which then raises there."""
        connection = self._socket
        if connection:
            from contextlib import suppress

            with suppress(OSError):
                connection.shutdown(_SHUT_RDWR)

    def wait_longer(self, seconds: float) -> None:
        """Wait for so much longer for what this client calls next."""
        self._timeout_s += seconds
        if self._socket:
            self._socket.settimeout(self._timeout_s)

    def _connect(self) -> _socket.socket:
        try:
            return connected(self.path, self._timeout_s)
        except PermissionError as error:
            raise UnreachableError(
                f"this user may not talk to the daemon at {quote_path(self.path)}",
                "run it as root, or join group 'ipsec' (to change) or 'ipsec-view' (to read)",
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"the daemon cannot be reached at {quote_path(self.path)}: "
                f"{error.strerror or error}",
                "start it with 'systemctl start ipsecd', or say where it is with --socket or "
                "IPSECD_SOCKET",
            ) from error

    def _reply(self, connection: _socket.socket) -> dict[str, Any]:
        """The next reply; raises ``ValueError`` for what is not JSON."""
        reply = loads(self._receive(connection).decode())
        if not isinstance(reply, dict):
            raise self._no_answer()
        return reply

    def _receive(self, connection: _socket.socket) -> bytes:
        """The next frame without the NUL at its end; what came after that is kept for later."""
        pieces = []
        chunk = self._received
        while True:
            piece, end, self._received = chunk.partition(b"\0")
            pieces.append(piece)
            if end:
                return b"".join(pieces)
            chunk = connection.recv(_CHUNK)
            if not chunk:
                raise self._no_answer()

    def _no_answer(self) -> UnreachableError:
        return UnreachableError(
            f"the daemon at {quote_path(self.path)} ended the connection without an answer",
            "it answers root and the groups 'ipsec' and 'ipsec-view' only; its log says more: "
            "journalctl -u ipsecd",
        )
