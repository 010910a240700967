"""Owns packets from one end of a link to the other, and the count of those that come through.

All sockets are opened here, each in the namespace of its end. What must not come is sent before
what must, on the same path: when the last has come, the first has had its time.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from pyroute2 import netns

COUNT = 5
"""How many datagrams go to a port, and how many bytes over a connection."""

OPEN, IN_BY_ME, IN_BY_ADDRESS, OUT_BY_ME, OUT_BY_ADDRESS = 1435, 1434, 3434, 2434, 4434
BLOCKED = {"in": (IN_BY_ME, IN_BY_ADDRESS), "out": (OUT_BY_ME, OUT_BY_ADDRESS)}
PROTOCOLS = ("UDP", "TCP")
DIRECTIONS = ("in", "out")


@contextmanager
def within(namespace: str | None) -> Iterator[None]:
    """What is opened inside belongs to a namespace; None is the one of the tests."""
    if namespace is None:
        yield
        return
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()


@dataclass(frozen=True)
class End:
    """One end of a link: where it is, its address of each IP version, a device to be bound to."""

    namespace: str | None
    addresses: Mapping[int, str]
    bound_to: str | None = None

    def socket(self, version: int, protocol: str, port: int = 0) -> socket.socket:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        with within(self.namespace):
            sock = socket.socket(family, kind)
        try:
            if self.bound_to is not None:
                name = self.bound_to.encode() + b"\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.addresses[version], port))
            sock.setblocking(False)
        except OSError:
            sock.close()
            raise
        return sock


@dataclass(frozen=True)
class Probe:
    """What is sent: which way, with which IP version and protocol, to which port."""

    direction: str
    version: int
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.direction}, IPv{self.version}, {self.protocol} port {self.port}"


def probe(host: End, peer: End, versions: Sequence[int], patience_s: float = 4) -> dict[Probe, int]:
    """How many of five come to each port: blocked ones and the open one, in and out."""
    came = {}
    for direction in DIRECTIONS:
        ends = (peer, host) if direction == "in" else (host, peer)
        for version in versions:
            for protocol in PROTOCOLS:
                exchange = datagrams if protocol == "UDP" else connections
                counts = exchange(*ends, version, BLOCKED[direction], patience_s)
                for port, count in counts.items():
                    came[Probe(direction, version, protocol, port)] = count
    return came


def datagrams(
    sender: End, receiver: End, version: int, blocked: Sequence[int], patience_s: float
) -> dict[int, int]:
    """Of five datagrams to each port, how many arrive."""
    ports = (*blocked, OPEN)
    with ExitStack() as stack:
        waiting = {
            port: stack.enter_context(receiver.socket(version, "UDP", port)) for port in ports
        }
        sending = stack.enter_context(sender.socket(version, "UDP"))
        for port in ports:
            for _ in range(COUNT):
                with suppress(OSError):
                    sending.sendto(b"worm", (receiver.addresses[version], port))
        deadline = time.monotonic() + patience_s
        counts = {OPEN: 0}
        while counts[OPEN] < COUNT and readable(waiting[OPEN], deadline):
            waiting[OPEN].recv(100)
            counts[OPEN] += 1
        for port in blocked:
            counts[port] = 0
            with suppress(BlockingIOError):
                while waiting[port].recv(100):
                    counts[port] += 1
        return counts


def connections(
    sender: End, receiver: End, version: int, blocked: Sequence[int], patience_s: float
) -> dict[int, int]:
    """Of five bytes over a connection to each port, how many arrive; all, if any answer came."""
    ports = (*blocked, OPEN)
    with ExitStack() as stack:
        waiting = {
            port: stack.enter_context(receiver.socket(version, "TCP", port)) for port in ports
        }
        connecting = {port: stack.enter_context(sender.socket(version, "TCP")) for port in ports}
        for port in ports:
            waiting[port].listen()
            connecting[port].connect_ex((receiver.addresses[version], port))
        deadline = time.monotonic() + patience_s
        counts = {OPEN: _exchanged(connecting[OPEN], waiting[OPEN], deadline)}
        for port in blocked:
            answered = _answered(waiting[port]) or _connected(connecting[port])
            counts[port] = COUNT if answered else 0
        return counts


def readable(sock: socket.socket, deadline: float) -> bool:
    """Whether there is something to read before the deadline."""
    return _ready(sock, selectors.EVENT_READ, deadline)


def _ready(sock: socket.socket, event: int, deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        return bool(selector.select(max(deadline - time.monotonic(), 0.001)))


def _exchanged(client: socket.socket, listener: socket.socket, deadline: float) -> int:
    """How many bytes go through a connection that is being made."""
    if not _ready(client, selectors.EVENT_WRITE, deadline) or not readable(listener, deadline):
        return 0
    with suppress(ConnectionError), listener.accept()[0] as served:
        client.send(bytes(COUNT))
        return len(served.recv(COUNT)) if readable(served, deadline) else 0
    return 0


def _answered(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True
