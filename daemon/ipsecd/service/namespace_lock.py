"""Owns the lock of a network namespace: only one ipsecd at a time writes to its kernel state.

The lock is the name of an abstract Unix socket. Such a name belongs to the network namespace
(unix(7)), so daemons in other namespaces are not concerned. It ends with its process, and deleting
a directory does not free it. Anybody can take the name, so it counts only if root has it: another
user who takes it does not keep rules from being enforced.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from ipsecd.errors import Refused
from ipsecd.log import record

NAME = "\0io.ipsecd.control/lock"
WAIT_S = 1.0
"""How long to wait for a holder that does not listen yet."""
RETRY_S = 0.02
BACKLOG = 4096
"""How many may ask at once: as many as the kernel lets wait by default."""
_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has the lock."""

    pid: int
    uid: int


class NamespaceLock:
    """The lock of the network namespace that the process is in, held until it is closed."""

    def __init__(self) -> None:
        """Take the lock; raises ``Refused`` if another process of the same user has it."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._turning_away: threading.Thread | None = None
        try:
            self._take()
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Release the lock, for the next process."""
        if self._turning_away:
            # The thread that waits for connections would keep the name in use.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._turning_away.join()
        self._sock.close()

    def _take(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self._sock.bind(NAME)
                self._sock.listen(BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise Refused(
                        f"the lock of the network namespace cannot be taken: {error.strerror}",
                        "let the daemon use sockets of the family AF_UNIX",
                    ) from error
            else:
                self._sock.setblocking(True)
                self._turning_away = threading.Thread(target=_turn_away, args=(self._sock,))
                self._turning_away.daemon = True
                self._turning_away.start()
                return
            holder = _holder()
            if holder is not None and holder.uid in {0, os.geteuid()}:
                raise Refused(
                    f"another ipsecd runs in this network namespace, as process {holder.pid}",
                    "stop it first: two of them would undo each other's rules",
                )
            if holder is not None or time.monotonic() > deadline:
                record(
                    logging.WARNING,
                    "lock-held-by-stranger",
                    pid=holder.pid if holder else None,
                    uid=holder.uid if holder else None,
                    consequence="another ipsecd with other directories would not be noticed",
                )
                return
            time.sleep(RETRY_S)


def _turn_away(sock: socket.socket) -> None:
    """Close every connection: if the queue were full, nobody could see who holds the lock."""
    while True:
        try:
            sock.accept()[0].close()
        except OSError as error:
            if error.errno not in {errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                return
            time.sleep(RETRY_S)


def _holder() -> Holder | None:
    """The process that listens on the name; None if there is none, or it cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(NAME)
        except OSError:
            return None
        size = _CREDENTIALS.size
        pid, uid, _ = _CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return Holder(pid, uid)
