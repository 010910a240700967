"""Owns connections to the daemon's socket; must not know what is said over them."""

from __future__ import annotations

import socket
import struct

DEFAULT_PATH = "/run/ipsecd/ipsecd.sock"


def connected(path: str, timeout_s: float) -> socket.socket:
    """A connection to the daemon at `path`, on which each operation may take so long.

    Raises ``OSError``.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Python's own timeout makes the socket non-blocking: connect(2) then fails at once if the
    # queue of the daemon is full at that moment. With the timeout of the kernel it waits.
    timeval = struct.pack("ll", max(1, int(timeout_s)), 0)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        connection.connect(path)
        connection.settimeout(timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def send_frame(connection: socket.socket, frame: bytes, descriptor: int | None = None) -> None:
    """Send `frame`, and with it an open file if `descriptor` is given.

    A daemon that refuses a connection says why and closes it, perhaps before anything was sent.
    That is no failure of the sending: what the daemon said is still there to be received.
    Raises ``OSError`` for everything else.
    """
    try:
        sent = 0
        if descriptor is not None:
            sent = socket.send_fds(connection, [frame], [descriptor])
        connection.sendall(frame[sent:])
    except BrokenPipeError:
        return
