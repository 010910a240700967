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
from ipsecd.host.interfaces import HostState, Interface, read_host
from ipsecd.host.netlink import FAMILY_NUMBERS
from ipsecd.host.rtnetlink import RouteSocket
from ipsecd.host.sock_diag import SockDiag, Socket
from ipsecd.language.addresses import format_value, ipv4_value, ipv6_value, is_mapped
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import MAX_PORT

MOST_SESSIONS = 1000
"""How many connections to ports of administration are looked at: people do not have more."""
_EPHEMERAL = 49152
"""A port as this host chooses one for what it opens (RFC 6335, section 6)."""
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


def described(way: Way) -> str:
    """The two ends of a connection in words."""
    return f"{_end(way.family, way.source, way.source_port)} to " + _end(
        way.family, way.destination, way.destination_port
    )


def _end(family: Family, address: int, port: int) -> str:
    text = format_value(family, address)
    return f"[{text}]:{port}" if family is Family.IPV6 else f"{text}:{port}"


class Sessions:
    """Finds connections in the network namespace that it is made in; raises ``OSError``."""

    def __init__(self) -> None:
        self.state: HostState = read_host()
        self._links = {interface.index: interface for interface in self.state.interfaces}
        with ExitStack() as stack:
            self._routes = stack.enter_context(RouteSocket())
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
        return self._of_entry(name, entry) if entry else None

    def of_administration(self, ports: Iterable[int], besides: Way | None) -> Iterator[Connection]:
        """What is connected to these ports, but for the connection of the caller."""
        count = 0
        for port in dict.fromkeys(ports):
            for found in self._sockets.connected(local_port=port):
                if besides is None or _way_of(found).reversed != besides:
                    yield from _some(self._of_socket("an administrative connection", found))
                    count += 1
                    if count == MOST_SESSIONS:
                        return

    def way_to(
        self, name: str, protocol: int, address: tuple[Family, int], port: int
    ) -> Connection:
        """What this host sends when it opens a connection, and what answers it."""
        family, value = address
        link, source = self._route(family, value)
        way = Way(family, protocol, source, _EPHEMERAL, value, port)
        if link and link.type is None:
            return Connection(name, (), ())
        answer = _packet(Point.ARRIVING, way.reversed, link, opening=False)
        return Connection(name, (answer,), (_packet(Point.SENDING, way, link, opening=True),))

    def _of_socket(self, name: str, found: Socket) -> Connection | None:
        """The connection of a socket; None on the loopback interface, which nothing filters."""
        sent = _way_of(found)
        link, _ = self._route(found.family, found.remote, found.local, found.link)
        if link and link.type is None:
            return None
        entry = self._entry(sent)
        received = sent.reversed
        if entry:
            received = entry.original if entry.reply == sent else entry.reply
        return Connection(
            f"{name} ({described(received)})",
            (_packet(Point.ARRIVING, received, link),),
            (_packet(Point.SENDING, sent, link),),
            tracked=entry is not None,
            cgroup=found.cgroup,
        )

    def _of_entry(self, name: str, entry: Entry) -> Connection:
        """A connection that this host forwards, with what it translates."""
        there = self._forwarded(entry.original, entry.reply.reversed)
        back = self._forwarded(entry.reply, entry.original.reversed)
        return Connection(f"{name} ({described(entry.original)})", there, back)

    def _entry(self, way: Way) -> Entry | None:
        return self._tracked.entry(way) if self._tracked else None

    def _forwarded(self, arriving: Way, leaving: Way) -> tuple[Packet, ...]:
        """A packet as it arrives, and as it leaves if that is under an address of this host."""
        link, _ = self._route(arriving.family, arriving.source)
        arrived = _packet(Point.ARRIVING, arriving, link)
        if not self.state.host.owns(leaving.family, leaving.source):
            return (arrived,)
        outward, _ = self._route(leaving.family, leaving.destination)
        left = _packet(Point.LEAVING, leaving, outward, arrived=arrived)
        return arrived, left

    def _route(
        self, family: Family, remote: int, local: int = 0, link: int = 0
    ) -> tuple[Interface | None, int]:
        """The link by which packets to an address leave, and the address that they are from."""
        size = family.bits // 8
        source = local.to_bytes(size, "big") if local else b""
        remote_bytes = remote.to_bytes(size, "big")
        route = self._routes.route(FAMILY_NUMBERS[family], remote_bytes, source, link)
        if route is None:
            return self._links.get(link), local
        return self._links.get(route.link), int.from_bytes(route.source, "big")


def _way_of(found: Socket) -> Way:
    """The way of what a socket sends."""
    return Way(
        found.family,
        found.protocol,
        found.local,
        found.local_port,
        found.remote,
        found.remote_port,
    )


def _packet(
    point: Point,
    way: Way,
    link: Interface | None,
    *,
    opening: bool = False,
    arrived: Packet | None = None,
) -> Packet:
    return Packet(
        point,
        way.family,
        way.source,
        way.destination,
        way.protocol,
        way.source_port,
        way.destination_port,
        link.type if link else InterfaceType.LAN,
        interface=link.name if link else "",
        opening=opening,
        arrived=arrived,
    )


def _some(connection: Connection | None) -> Iterator[Connection]:
    if connection:
        yield connection
