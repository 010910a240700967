"""Owns sockets of this process in any network namespace: what they send, and count.

A program for each would take longer than most tests that ask whether a packet comes through.
"""

from __future__ import annotations

import ctypes
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33
ROOM = 8 << 20
"""Bytes that wait until they are counted: thousands of datagrams."""
CONNECTING_S = 0.8


@contextmanager
def entered(path: str) -> Iterator[None]:
    """Run the block with this thread in the network namespace of a file: its sockets stay there."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    setns.argtypes = (ctypes.c_int, ctypes.c_int)
    with Path("/proc/thread-self/ns/net").open() as own, Path(path).open() as target:
        assert setns(target.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()
        try:
            yield
        finally:
            assert setns(own.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listener(path: str, address: str, port: int, *, tcp: bool) -> socket.socket:
    """A socket of a namespace to which datagrams or connections can come."""
    with entered(path):
        sock = socket.socket(_family(address), socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    try:
        if tcp:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        sock.bind((address, port))
        if tcp:
            sock.listen()
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def counted(sock: socket.socket, silence_s: float) -> int:
    """How much has come to a listener when nothing more has come for `silence_s`."""
    count = 0
    while select.select([sock], [], [], silence_s)[0]:
        with suppress(BlockingIOError):
            while True:
                if sock.type is socket.SOCK_STREAM:
                    sock.accept()[0].close()
                else:
                    sock.recv(65535)
                count += 1
    return count


def send(path: str, address: str, port: int, count: int, size: int) -> None:
    """Send datagrams from a namespace; what is refused here is not sent."""
    with entered(path), socket.socket(_family(address), socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            with suppress(PermissionError):
                sock.sendto(b"x" * size, (address, port))


def connect(path: str, address: str, port: int) -> None:
    """Open a connection from a namespace and close it, if it can be opened in time."""
    with entered(path), suppress(OSError):
        socket.create_connection((address, port), CONNECTING_S).close()
