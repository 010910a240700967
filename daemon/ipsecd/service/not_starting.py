"""Owns what those are told who wait at the socket of a daemon that cannot start; must not know why.

The service manager keeps the socket and tries again, so without this whoever asks would wait until
nobody does any more.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from contextlib import closing, suppress

from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.protocol.errors import to_wire
from ipsecd.protocol.frames import encode_frame
from ipsecd.service.access import credentials
from ipsecd.service.listener import passed_socket


def tell_waiting(environment: MutableMapping[str, str], error: IpsecdError) -> None:
    """Answer those who wait at the socket that the service manager passed, if it did, with `error`.

    Root is told why. For anybody else accounts would have to be looked up, so their connections are
    only ended: that the log says more is said by whoever has no answer.
    """
    where = error.where if isinstance(error, InvalidInput) else ""
    refusal = Refused(f"the daemon does not start: {where}{error.message}", error.hint)
    frame = encode_frame(to_wire(refusal))
    with suppress(IpsecdError, OSError):
        listener = passed_socket(environment)
        if listener is None:
            return
        with closing(listener):
            while True:
                _tell(listener.accept()[0], frame)


def _tell(connection: socket.socket, frame: bytes) -> None:
    with closing(connection), suppress(OSError):
        if credentials(connection).uid == 0:
            connection.send(frame, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
