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
