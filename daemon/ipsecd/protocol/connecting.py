"""Owns connections to the daemon's socket; must not know what is said over them.

The module ``socket`` takes a command longer to import than all it says to the daemon, and has
nothing that is needed here but the sockets of the kernel, which are in ``_socket``.
"""

from __future__ import annotations

import _socket
import struct

DEFAULT_PATH = "/run/ipsecd/ipsecd.sock"


def connected(path: str, timeout_s: float) -> _socket.socket:
    """A connection to the daemon at `path`, on which each operation may take so long.

    Raises ``OSError``.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    # Python's own timeout makes the socket non-blocking: connect(2) then fails at once if the
    # queue of the daemon is full at that moment. With the timeout of the kernel it waits.
    timeval = struct.pack("ll", max(1, int(timeout_s)), 0)
    try:
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, timeval)
        connection.connect(path)
        connection.settimeout(timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def send_frame(connection: _socket.socket, frame: bytes, descriptor: int | None = None) -> None:
    """Send `frame`, and with it an open file if `descriptor` is given.

    A daemon that refuses a connection says why and closes it, perhaps before anything was sent.
    That is no failure of the sending: what the daemon said is still there to be received.
    Raises ``OSError`` for everything else.
    """
    try:
        sent = 0
        if descriptor is not None:
            passed = struct.pack("i", descriptor)
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)
            sent = connection.sendmsg([frame], [rights])
        connection.sendall(frame[sent:])
    except BrokenPipeError:
        return
