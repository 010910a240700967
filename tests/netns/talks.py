"""Owns connections that stay open, and whether what one end says comes through and is answered."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ipsecd.host.conntrack import NETLINK_NETFILTER
from ipsecd.host.netlink import HEADER, NLM_F_ACK, NLM_F_REQUEST
from tests.netns import sockets
from tests.netns.site import PATIENCE, Namespace, namespace_file

SILENCE_S = 0.5 * PATIENCE
"""What is not answered for so long, while all others are, does not come through."""
ANSWER_S = 60.0 * PATIENCE
AGAIN_S = 0.3
SIZE = 8

DELETE = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_DELETE."""

Key = tuple[str, str, int, str, int]


@dataclass(eq=False)
class Talk:
    """A connection: its two ends, and the packets of the one that opened it, as it sends them."""

    name: str
    client: socket.socket
    server: socket.socket
    key: Key
    listener: socket.socket
    is_answered: bool = True
    asked: int = 0
    heard: int = 0
    _left: dict[int, bytes] = field(default_factory=dict)

    @property
    def is_tcp(self) -> bool:
        return self.client.type is socket.SOCK_STREAM

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        return self.client, self.server

    def ask(self) -> None:
        """Say something new, or for UDP say it again."""
        with suppress(OSError):
            self.client.send(f"{self.asked:0{SIZE}}".encode())

    def take(self, sock: socket.socket) -> None:
        """Take what has come to one of the ends: the server answers with the same."""
        with suppress(OSError):
            if sock is self.server and not self.is_tcp:
                data, sender = sock.recvfrom(65536)
                if self.is_answered:
                    sock.sendto(data, sender)
            else:
                data = sock.recv(65536)
                if sock is self.server:
                    sock.send(data)
            if sock is self.client or not self.is_answered:
                self._heard(sock, data)

    def _heard(self, sock: socket.socket, data: bytes) -> None:
        data = self._left.get(sock.fileno(), b"") + data
        whole = len(data) - len(data) % SIZE
        self._left[sock.fileno()] = data[whole:]
        for at in range(0, whole, SIZE):
            self.heard = max(self.heard, int(data[at : at + SIZE]))

    @property
    def came_through(self) -> bool:
        return self.heard == self.asked

    def close(self) -> None:
        """Nothing of it is left: neither end waits for the other's last word."""
        for sock in (*self.ends, self.listener):
            if self.is_tcp:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def opened(
    name: str,
    client: Namespace,
    server: Namespace,
    address: str,
    port: int,
    *,
    at: tuple[str, int] | None = None,
    tcp: bool = True,
    answered: bool = True,
) -> Talk:
    """A connection to an address and port; the server listens `at` others if these are given.

    A server of UDP is not connected, and its client is. One that is not `answered` is of UDP.
    """
    client_path, server_path = namespace_file(client), namespace_file(server)
    assert client_path
    assert server_path
    listener = sockets.listener(server_path, *(at or (address, port)), tcp=tcp)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with sockets.entered(client_path):
        sock = socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    sock.settimeout(ANSWER_S)
    sock.connect((address, port))
    sock.setblocking(False)
    if tcp:
        select.select([listener], [], [], ANSWER_S)
        end, _ = listener.accept()
        end.setblocking(False)
    else:
        end = listener
    source, source_port = sock.getsockname()[:2]
    key = "tcp" if tcp else "udp", source, source_port, address, port
    return Talk(name, sock, end, key, listener, answered)


def forget_connections() -> None:
    """Empty the table of connections: that of UDP has what is long over (ctnetlink's delete)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        flags = NLM_F_REQUEST | NLM_F_ACK
        netlink.send(HEADER.pack(HEADER.size + 4, DELETE, flags, 1, 0) + bytes(4))
        code = struct.unpack_from("=i", netlink.recv(4096), HEADER.size)[0]
        assert code == 0, code


def that_go_on(talks: Sequence[Talk], expected: Iterable[Talk]) -> set[str]:
    """The names of those that come through; it is waited for those that are `expected` to."""
    awaited = set(expected)
    by_socket = {sock: talk for talk in talks for sock in talk.ends}
    for talk in talks:
        talk.asked += 1
        talk.ask()
    deadline = time.monotonic() + ANSWER_S
    again = time.monotonic() + AGAIN_S
    until = None
    while True:
        now = time.monotonic()
        if until is None and (now > deadline or all(talk.came_through for talk in awaited)):
            until = now + SILENCE_S
        if until is not None and now > until:
            return {talk.name for talk in talks if talk.came_through}
        if now > again:
            again = now + AGAIN_S
            for talk in talks:
                if not talk.is_tcp and not talk.came_through:
                    talk.ask()
        for sock in select.select([*by_socket], [], [], 0.05)[0]:
            by_socket[sock].take(sock)
