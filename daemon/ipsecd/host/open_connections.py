"""Owns finding every connection that is open now; must not know what would cut them.

They are the connected sockets of TCP and UDP, those that servers of UDP answer, and what this host
forwards, as connection tracking knows it. One that connection tracking still remembers after it has
ended is none, nor are the questions and answers of ICMP. Sockets in other network namespaces, as
those in containers, are seen by what this host forwards for them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from ipsecd.host.conntrack import ENDED, UNKNOWN, Conntrack, Entry, Way
from ipsecd.host.interfaces import HostState, read_host
from ipsecd.host.paths import Paths, way_of
from ipsecd.host.rtnetlink import RouteSocket
from ipsecd.host.sock_diag import (
    ESTABLISHED,
    LISTENING,
    STATES,
    SYN_SENT,
    TIME_WAIT,
    UNCONNECTED,
    SockDiag,
    Socket,
)
from ipsecd.language.addresses import is_mapped
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection

TCP_STATES = STATES.keys() - {TIME_WAIT, UNCONNECTED}
_ICMP = (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
_OF_SOCKETS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
"""The protocols without whose socket a connection of this host is over."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection that is open.

    ``way`` is that of the packets of whoever opened it, as this host first sees them, and ``state``
    a word. ``socket`` is the socket of this host that has it; None for what is forwarded, and where
    that is not known. ``ends`` are the addresses that are connected behind all translation, that
    which was called first, and ``inner`` is that of them which is translated; None if none is.
    """

    way: Way
    state: str
    connection: Connection
    socket: Socket | None = None
    ends: tuple[int, ...] = ()
    inner: int | None = None


class OpenConnections:
    """Finds them in the network namespace of the thread; raises ``OSError``."""

    def __init__(self) -> None:
        self.state: HostState = read_host()
        self._sockets: dict[Way, Socket] = {}
        self._servers: dict[tuple[int, Family, int, int], Socket] = {}
        with SockDiag() as sockets:
            for found in sockets.sockets(socket.IPPROTO_TCP, TCP_STATES):
                self._take(found, is_server=found.state == LISTENING)
            for found in sockets.sockets(socket.IPPROTO_UDP, (ESTABLISHED, UNCONNECTED)):
                self._take(found, is_server=found.state == UNCONNECTED)

    def _take(self, found: Socket, *, is_server: bool) -> None:
        if not is_server:
            self._sockets[way_of(found)] = found
            return
        family, address = found.family, found.local
        if family is Family.IPV6 and is_mapped(address):
            family, address = Family.IPV4, address & 0xFFFFFFFF
        self._servers[found.protocol, family, address, found.local_port] = found

    def __iter__(self) -> Iterator[OpenConnection]:
        unseen = dict(self._sockets)
        with RouteSocket() as routes:
            paths = Paths(self.state, routes)
            for entry in _entries():
                found = self._of_entry(paths, entry, unseen)
                if found:
                    yield found
            for each in unseen.values():
                found = self._of_socket(paths, each, None)
                if found:
                    yield found

    def _of_entry(
        self, paths: Paths, entry: Entry, unseen: dict[Way, Socket]
    ) -> OpenConnection | None:
        """What an entry of connection tracking stands for; its socket is `unseen` no longer."""
        for sent in (entry.original, entry.reply):
            if sent in self._sockets:
                # Zones of connection tracking may know a connection more than once.
                found = unseen.pop(sent, None)
                return self._of_socket(paths, found, entry) if found else None
        original, reply = entry.original, entry.reply
        if original.protocol in _ICMP or entry.state in ENDED:
            return None
        host, family = self.state.host, original.family
        if self._is_for_many(family, original.destination):
            return None
        if not host.owns(family, original.source) and not host.owns(family, reply.source):
            return _forwarded(paths, entry)
        sent = original if host.owns(family, original.source) else reply
        server = self._server(sent)
        if server is None and sent.protocol in _OF_SOCKETS:
            return None
        connection = paths.of_local_entry("", entry, server.cgroup if server else 0)
        state = "answered" if entry.is_answered else "unanswered"
        return OpenConnection(original, state, connection, server) if connection else None

    def _of_socket(self, paths: Paths, found: Socket, entry: Entry | None) -> OpenConnection | None:
        sent = way_of(found)
        if self._is_for_many(sent.family, sent.destination):
            return None
        if entry:
            way = entry.original
        else:
            way = sent.reversed if self._server(sent) else sent
            if found.state == SYN_SENT:
                # Nothing but an answer of the other end makes more of it.
                entry = Entry(sent, sent.reversed, is_answered=False)
        connection = paths.of_socket("", found, entry)
        if connection is None:
            return None
        return OpenConnection(way, STATES.get(found.state, ""), connection, found)

    def _is_for_many(self, family: Family, address: int) -> bool:
        """Whether an address is that of a group or of all: who sends there has no other end."""
        host = self.state.host
        return host.receives(family, address) and not host.owns(family, address)

    def _server(self, sent: Way) -> Socket | None:
        """The socket that has what comes to the source of a way, but for connected sockets."""
        for family in dict.fromkeys((sent.family, Family.IPV6)):
            for address in (sent.source, 0):
                server = self._servers.get((sent.protocol, family, address, sent.source_port))
                if server:
                    return server
        return None


def _forwarded(paths: Paths, entry: Entry) -> OpenConnection:
    original, reply = entry.original, entry.reply
    inner = None
    if original.destination != reply.source:
        inner = reply.source
    elif reply.destination != original.source:
        inner = original.source
    state = entry.state or ("answered" if entry.is_answered else "unanswered")
    ends = (reply.source, original.source)
    return OpenConnection(original, state, paths.of_entry("", entry), None, ends, inner)


def _entries() -> Iterator[Entry]:
    """What connection tracking knows; nothing where the kernel has none."""
    try:
        tracked = Conntrack()
    except OSError as error:
        if error.errno in UNKNOWN:
            return
        raise
    with tracked:
        yield from tracked.entries()
