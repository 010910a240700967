"""Owns the news that interfaces or addresses of this host changed; does not know what they are now.

Sources: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import socket

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100


class AddressNews:
    """A socket that is readable when anything has changed, in the network namespace of now."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read all news; whether there were any. Lost news count as news."""
        news = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return news
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            news = True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
