"""Owns which addresses this host cannot do without; must not know what may cover them.

They are its own, the gateways of its default routes, and its name servers. Sources: rtnetlink(7),
resolv.conf(5).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from ipsecd.host.interfaces import read_host
from ipsecd.host.netlink import FAMILIES, NETLINK_ADD_MEMBERSHIP, SOL_NETLINK, attributes
from ipsecd.host.rtnetlink import RTMSG, RouteSocket
from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.language.list_guard import Needed
from ipsecd.model.addresses import Family

RESOLV_CONF = Path("/etc/resolv.conf")
MAX_RESOLV_CONF = 1 << 16
OWN, GATEWAY, RESOLVER = "an address of this host", "the default gateway", "a name server"
_RTA_GATEWAY, _RTA_MULTIPATH = 5, 9
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""``RTMGRP_`` LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""
_RTNLGRP_NEXTHOP = 32
_RECEIVE_BYTES = 1 << 16
_RTNEXTHOP = struct.Struct("=HBBi")
"""``struct rtnexthop``: length with its attributes, flags, hops, index of the link."""


class HostNeeds:
    """What this host needs, for any thread of the network namespace that it is first asked in.

    The kernel is asked for addresses and routes only after it has told of a change of any.
    """

    def __init__(self, resolv_conf: Path = RESOLV_CONF) -> None:
        self._resolv_conf = resolv_conf
        self._lock = Lock()
        self._news: socket.socket | None = None
        self._of_kernel: tuple[Needed, ...] | None = None

    def addresses(self) -> tuple[Needed, ...]:
        """What is needed now, as far as it can be found out."""
        with self._lock:
            # What changes while it is read makes news for the next time.
            if self._have_changed() or self._of_kernel is None:
                self._of_kernel = None
                self._of_kernel = (*_own(), *_gateways())
            return (*self._of_kernel, *_resolvers(self._resolv_conf))

    def _have_changed(self) -> bool:
        """Whether there are news since the last call; news that were lost are some."""
        if self._news is None:
            self._news = _news_of_routes()
        changed = False
        while True:
            try:
                self._news.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True


def _news_of_routes() -> socket.socket:
    """A socket that hears of links, addresses, routes and next hops that come, go or change."""
    flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    news = socket.socket(socket.AF_NETLINK, flags, socket.NETLINK_ROUTE)
    news.bind((0, _GROUPS))
    with suppress(OSError):
        # Before Linux 5.3 there are no next hops beside routes.
        news.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, _RTNLGRP_NEXTHOP)
    return news


def _own() -> Iterator[Needed]:
    """The addresses of this host."""
    for family, address in sorted(read_host().host.addresses):
        if not _is_loopback(family, address):
            yield Needed(family, address, OWN)


def name_servers(resolv_conf: Path = RESOLV_CONF) -> tuple[tuple[Family, int], ...]:
    """The addresses of the name servers."""
    return tuple((needed.family, needed.address) for needed in _resolvers(resolv_conf))


def _is_loopback(family: Family, address: int) -> bool:
    """Whether an address is on ``lo`` by its kind; a list that covers it is told so anyway."""
    return address >> 24 == 127 if family is Family.IPV4 else address == 1


def _gateways() -> Iterator[Needed]:
    """The gateways of default routes, of several paths too."""
    with RouteSocket() as route_socket:
        for number, family in FAMILIES.items():
            gateways = {
                int.from_bytes(gateway, "big")
                for route in route_socket.default_routes(number)
                for gateway in _gateways_of(route[RTMSG.size :])
                if len(gateway) * 8 == family.bits
            }
            yield from (Needed(family, gateway, GATEWAY) for gateway in sorted(gateways))


def _gateways_of(route: bytes) -> Iterator[bytes]:
    for kind, value in attributes(route):
        if kind == _RTA_GATEWAY:
            yield value
        elif kind == _RTA_MULTIPATH:
            at = 0
            while at + _RTNEXTHOP.size <= len(value):
                length = max(_RTNEXTHOP.unpack_from(value, at)[0], _RTNEXTHOP.size)
                yield from _gateways_of(value[at + _RTNEXTHOP.size : at + length])
                at += (length + 3) & ~3


def _resolvers(path: Path) -> Iterator[Needed]:
    """The name servers; those on loopback are not needed from outside."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RESOLV_CONF).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        host = words[1].partition("%")[0]
        ipv4, ipv6 = ipv4_value(host), ipv6_value(host)
        if ipv4 is not None:
            yield Needed(Family.IPV4, ipv4, RESOLVER)
        elif ipv6 is not None:
            yield Needed(Family.IPV6, ipv6, RESOLVER)
