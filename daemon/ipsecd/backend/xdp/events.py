"""Owns the news that interfaces or addresses changed, and the timer for checks of the links.

The kernel tells nobody when a link is detached, so the links are checked once a second.
"""

from __future__ import annotations

import errno
import select
import socket

from ipsecd.backend.xdp.timer import Timer

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
INTERVAL_NS = 1_000_000_000


class Events:
    """One descriptor that is readable when there is something to look at."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        self._timer = Timer()
        self._timer.run(INTERVAL_NS)
        self._epoll = select.epoll()
        for descriptor in (self._socket, self._timer):
            self._epoll.register(descriptor, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor."""
        return self._epoll.fileno()

    def drain(self) -> bool:
        """Read all news, and return whether there were any; False if only the timer fired.

        The caller asks the kernel itself what has changed. Lost news count as news.
        """
        self._timer.drain()
        news = False
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return news
            except OSError as error:
                # There were more news than the socket could hold; the caller reads everything anew.
                if error.errno != errno.ENOBUFS:
                    raise
            news = True

    def close(self) -> None:
        """Close all descriptors."""
        self._epoll.close()
        self._socket.close()
        self._timer.close()
