"""Owns finding the connections that must not be cut by mistake; must not know what would cut them.

They are those that administrators work through: what SSH_CONNECTION says (ssh(1)), checked against
the sockets and the tracked connections that there are, and what is connected to the ports of
administration. What a caller says is no more than a claim, and adds to what is looked at.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Self

from ipsecd.host.conntrack import Conntrack, Entry, Way
from ipsecd.host.interfaces import HostState, read_host
from ipsecd.host.paths import Paths, way_of
from ipsecd.host.rtnetlink import RouteSocket
from ipsecd.host.sock_diag import SockDiag, Socket
from ipsecd.language.addresses import ipv4_value, ipv6_value, is_mapped
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection
from ipsecd.model.values import MAX_PORT

MOST_SESSIONS = 1000
"""How many connections to ports of administration are looked at: people do not have more."""
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def claimed_way(text: str) -> Way | None:
    """The way of what a client sends, by the words of SSH_CONNECTION; None if they are none."""
    words = text.split()
    if len(words) != 4 or not all(map(_PORT.fullmatch, words[1::2])):
        return None
    client, server = (_value(word) for word in words[::2])
    ports = [int(word) for word in words[1::2]]
    if client is None or server is None or client[0] is not server[0] or max(ports) > MAX_PORT:
        return None
    return Way(client[0], socket.IPPROTO_TCP, client[1], ports[0], server[1], ports[1])


def _value(text: str) -> tuple[Family, int] | None:
    """An address, with or without its link; an IPv4 address also as IPv6 writes it."""
    host = text.partition("%")[0]
    ipv4, ipv6 = ipv4_value(host), ipv6_value(host)
    if ipv4 is not None:
        return Family.IPV4, ipv4
    if ipv6 is None:
        return None
    return (Family.IPV4, ipv6 & 0xFFFFFFFF) if is_mapped(ipv6) else (Family.IPV6, ipv6)


class Sessions:
    """Finds connections in the network namespace that it is made in; raises ``OSError``."""

    def __init__(self) -> None:
        self.state: HostState = read_host()
        with ExitStack() as stack:
            self._paths = Paths(self.state, stack.enter_context(RouteSocket()))
            self._sockets = stack.enter_context(SockDiag())
            self._tracked: Conntrack | None = None
            # A kernel without netfilter tracks and translates nothing.
            with suppress(OSError):
                self._tracked = stack.enter_context(Conntrack())
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def of_caller(self, claim: Way) -> Connection | None:
        """The connection that a caller says he comes by, if there is one like that."""
        name = "the connection that it is made through"
        for found in self._sockets.connected(
            claim.protocol, local_port=claim.destination_port, remote_port=claim.source_port
        ):
            if (found.local, found.remote) == (claim.destination, claim.source):
                return self._of_socket(name, found)
        # The server may run in a container, or behind this host.
        entry = self._entry(claim.reversed)
        return self._paths.of_entry(name, entry) if entry else None

    def of_administration(self, ports: Iterable[int], besides: Way | None) -> Iterator[Connection]:
        """What is connected to these ports, but for the connection of the caller."""
        count = 0
        for port in dict.fromkeys(ports):
            for found in self._sockets.connected(local_port=port):
                if besides is None or way_of(found).reversed != besides:
                    yield from _some(self._of_socket("an administrative connection", found))
                    count += 1
                    if count == MOST_SESSIONS:
                        return

    def way_to(
        self, name: str, protocol: int, address: tuple[Family, int], port: int
    ) -> Connection:
        """What this host sends when it opens a connection, and what answers it."""
        return self._paths.of_way_to(name, protocol, address, port)

    def _of_socket(self, name: str, found: Socket) -> Connection | None:
        return self._paths.of_socket(name, found, self._entry(way_of(found)))

    def _entry(self, way: Way) -> Entry | None:
        return self._tracked.entry(way) if self._tracked else None


def _some(connection: Connection | None) -> Iterator[Connection]:
    if connection:
        yield connection
