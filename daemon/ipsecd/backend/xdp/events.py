"""Owns the news that interfaces or addresses changed, and the timer for checks of the links.

The kernel tells nobody when a link is detached, so the links are checked once a second.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
from contextlib import suppress

_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_CLOCK_MONOTONIC = 1
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
INTERVAL_S = 1


class _Timer(ctypes.Structure):
    """``struct itimerspec``: the interval, then the first time; seconds and nanoseconds."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class Events:
    """One descriptor that is readable when there is something to look at."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        self._timer = _timer(INTERVAL_S)
        self._epoll = select.epoll()
        for descriptor in (self._socket.fileno(), self._timer):
            self._epoll.register(descriptor, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor."""
        return self._epoll.fileno()

    def drain(self) -> bool:
        """Read all news, and return whether there were any; False if only the timer fired.

        The caller asks the kernel itself what has changed. Lost news count as news.
        """
        with suppress(BlockingIOError):
            os.read(self._timer, 8)
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
        os.close(self._timer)


def _timer(interval_s: int) -> int:
    """A descriptor that is readable every `interval_s` seconds (timerfd_create(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.timerfd_settime.argtypes = (
        ctypes.c_int,
        ctypes.c_int,
        ctypes.POINTER(_Timer),
        ctypes.c_void_p,
    )
    descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_FLAGS)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    libc.timerfd_settime(descriptor, 0, ctypes.byref(_Timer(interval_s, 0, interval_s, 0)), None)
    return descriptor
