"""Owns which packets a connection is made of: at each point, by which link, and as translated.

Must not know whose connection it is, nor how it was found.
"""

from __future__ import annotations

import socket

from ipsecd.host.conntrack import Entry, Way
from ipsecd.host.interfaces import HostState, Interface
from ipsecd.host.netlink import FAMILY_NUMBERS
from ipsecd.host.rtnetlink import RouteSocket
from ipsecd.host.sock_diag import Socket
from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Packet, Point
from ipsecd.model.source_ports import EPHEMERAL
from ipsecd.model.values import PROTOCOLS_WITH_PORTS


def described(way: Way) -> str:
    """The two ends of a connection in words."""
    return f"{_end(way.family, way.source, way.source_port)} to " + _end(
        way.family, way.destination, way.destination_port
    )


def _end(family: Family, address: int, port: int) -> str:
    text = format_value(family, address)
    return f"[{text}]:{port}" if family is Family.IPV6 else f"{text}:{port}"


def way_of(found: Socket) -> Way:
    """The way of what a socket sends."""
    return Way(
        found.family,
        found.protocol,
        found.local,
        found.local_port,
        found.remote,
        found.remote_port,
    )


class Paths:
    """Knows the links that packets take, by the routes of the network namespace of `routes`."""

    def __init__(self, state: HostState, routes: RouteSocket) -> None:
        self._host = state.host
        self._links = {interface.index: interface for interface in state.interfaces}
        self._routes = routes
        self._taken: dict[tuple[Family, int, int, int], tuple[Interface | None, int]] = {}

    def of_way_to(
        self, name: str, protocol: int, address: tuple[Family, int], port: int
    ) -> Connection:
        """What this host sends when it opens a connection, and what answers it."""
        family, value = address
        link, source = self._route(family, value)
        way = Way(family, protocol, source, EPHEMERAL, value, port)
        if link and link.type is None:
            return Connection(name, (), ())
        answer = _packet(Point.ARRIVING, way.reversed, link, opening=False)
        return Connection(name, (answer,), (_packet(Point.SENDING, way, link, opening=True),))

    def of_socket(self, name: str, found: Socket, entry: Entry | None) -> Connection | None:
        """The connection of a socket; None on the loopback interface, which nothing filters.

        `entry` is that of connection tracking, None if there is none.
        """
        sent = way_of(found)
        return self._local(name, sent, entry, found.link, found.cgroup)

    def of_local_entry(self, name: str, entry: Entry, cgroup: int = 0) -> Connection | None:
        """A tracked connection of this host, whose socket is not connected; None likewise."""
        is_outward = self._host.owns(entry.original.family, entry.original.source)
        return self._local(name, entry.original if is_outward else entry.reply, entry, 0, cgroup)

    def of_entry(self, name: str, entry: Entry) -> Connection:
        """A connection that this host forwards, with what it translates."""
        opening = not entry.is_answered
        there = self._forwarded(entry.original, entry.reply.reversed, opening=opening)
        back = self._forwarded(entry.reply, entry.original.reversed)
        one_way = opening and entry.original.protocol != socket.IPPROTO_TCP
        return Connection(_named(name, entry.original), there, back, one_way=one_way)

    def _local(
        self, name: str, sent: Way, entry: Entry | None, bound_to: int, cgroup: int
    ) -> Connection | None:
        link, _ = self._route(sent.family, sent.destination, sent.source, bound_to)
        if link and link.type is None:
            return None
        received, is_outward = sent.reversed, False
        if entry:
            is_outward = entry.reply != sent
            received = entry.reply if is_outward else entry.original
        # Until it is answered, each packet of whoever opens a connection is one that opens it.
        opening = entry is not None and not entry.is_answered
        return Connection(
            _named(name, received),
            (_packet(Point.ARRIVING, received, link, opening=opening and not is_outward),),
            (_packet(Point.SENDING, sent, link, opening=opening and is_outward),),
            tracked=entry is not None,
            cgroup=cgroup,
            one_way=sent.protocol != socket.IPPROTO_TCP and (opening or entry is None),
        )

    def _forwarded(
        self, arriving: Way, leaving: Way, *, opening: bool = False
    ) -> tuple[Packet, ...]:
        """A packet as it arrives, and as it leaves if that is under an address of this host."""
        link, _ = self._route(arriving.family, arriving.source)
        arrived = _packet(Point.ARRIVING, arriving, link, opening=opening)
        if not self._host.owns(leaving.family, leaving.source):
            return (arrived,)
        outward, _ = self._route(leaving.family, leaving.destination)
        left = _packet(Point.LEAVING, leaving, outward, opening=opening, arrived=arrived)
        return arrived, left

    def _route(
        self, family: Family, remote: int, local: int = 0, link: int = 0
    ) -> tuple[Interface | None, int]:
        """The link by which packets to an address leave, and the address that they are from."""
        key = family, remote, local, link
        if key not in self._taken:
            self._taken[key] = self._asked_route(*key)
        return self._taken[key]

    def _asked_route(
        self, family: Family, remote: int, local: int, link: int
    ) -> tuple[Interface | None, int]:
        size = family.bits // 8
        source = local.to_bytes(size, "big") if local else b""
        remote_bytes = remote.to_bytes(size, "big")
        route = self._routes.route(FAMILY_NUMBERS[family], remote_bytes, source, link)
        if route is None:
            return self._links.get(link), local
        return self._links.get(route.link), int.from_bytes(route.source, "big")


def _named(name: str, way: Way) -> str:
    """A name with the two ends of a connection; empty where nobody asks for one."""
    return f"{name} ({described(way)})" if name else ""


def _packet(
    point: Point,
    way: Way,
    link: Interface | None,
    *,
    opening: bool,
    arrived: Packet | None = None,
) -> Packet:
    has_ports = way.protocol in PROTOCOLS_WITH_PORTS
    return Packet(
        point,
        way.family,
        way.source,
        way.destination,
        way.protocol,
        way.source_port if has_ports else None,
        way.destination_port if has_ports else None,
        link.type if link else InterfaceType.LAN,
        interface=link.name if link else "",
        opening=opening,
        arrived=arrived,
    )
