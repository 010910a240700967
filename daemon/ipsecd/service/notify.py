"""Owns messages to the service manager (sd_notify(3)); must not know when they are due.

Without ``NOTIFY_SOCKET`` in the environment no message is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence

from ipsecd.log import record
from ipsecd.quoting import visible


class Notifier:
    """Tells the service manager the daemon's state; a failure is logged and not raised."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_usec = environment.get("WATCHDOG_USEC", "")
        self._watchdog_pid = environment.get("WATCHDOG_PID", "")

    @property
    def watchdog_s(self) -> float | None:
        """Seconds within which the service manager wants to hear ``WATCHDOG=1``; None if never."""
        if self._watchdog_pid not in ("", str(os.getpid())):
            return None
        if not self._watchdog_usec.isdecimal() or int(self._watchdog_usec) == 0:
            return None
        return int(self._watchdog_usec) / 1_000_000

    def ready(self, status: str) -> None:
        """Tell that the start, or a reload, is done."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that a reload begins; ``ready`` must follow, whether it succeeds or not."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={usec}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """Tell that the daemon is about to end."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Tell a line for people, which ``systemctl status`` shows."""
        self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """Tell that the daemon is alive."""
        self._send("WATCHDOG=1")

    def keep(self, descriptor: int, *lines: str) -> None:
        """Have the service manager hold a descriptor, as `lines` say."""
        self._send(*lines, descriptors=(descriptor,))

    def let_go(self, name: str) -> None:
        """Have the service manager close the descriptors that it holds under a name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> None:
        if not self._address:
            return
        # "@" stands for the NUL byte that begins an abstract address (unix(7)).
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        message = "\n".join(visible(line.replace("\n", " ")) for line in lines).encode(
            "utf-8", "replace"
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                # In Python 3.11, `socket.send_fds` cannot send to an address.
                sender.sendmsg([message], _rights(descriptors), 0, address)
        except OSError as error:
            record(logging.WARNING, "notify-failed", socket=self._address, reason=error.strerror)


def _rights(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that hands over `descriptors` (unix(7))."""
    if not descriptors:
        return []
    numbers = struct.pack(f"={len(descriptors)}i", *descriptors)
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
