"""Owns the news that interfaces or addresses changed, and the timer for checks of the links.

The kernel tells nobody when a link is detached, so the links are checked once a second.
"""

from __future__ import annotations

import select

from ipsecd.backend.xdp.timer import Timer
from ipsecd.host.address_news import AddressNews

INTERVAL_NS = 1_000_000_000


class Events:
    """One descriptor that is readable when there is something to look at."""

    def __init__(self) -> None:
        self._news = AddressNews()
        self._timer = Timer()
        self._timer.run(INTERVAL_NS)
        self._epoll = select.epoll()
        for descriptor in (self._news, self._timer):
            self._epoll.register(descriptor, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor."""
        return self._epoll.fileno()

    def drain(self) -> bool:
        """Read all news, and return whether there were any; False if only the timer fired.

        The caller asks the kernel itself what has changed. Lost news count as news.
        """
        self._timer.drain()
        return self._news.drain()

    def close(self) -> None:
        """Close all descriptors."""
        self._epoll.close()
        self._news.close()
        self._timer.close()
