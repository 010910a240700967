"""Owns asking rtnetlink for links, addresses and local routes; must not know what they mean.

It hands on the kernel's bytes as they are, because to decode every attribute of ten thousand
addresses takes seconds. Sources: net/core/rtnetlink.c, rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import NamedTuple

from ipsecd.host.netlink import NETLINK_GET_STRICT_CHK, SOL_NETLINK, attribute, attributes
from ipsecd.host.netlink_socket import NetlinkSocket

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
RT_TABLE_LOCAL = 255
IFLA_EXT_MASK = 29
RTEXT_FILTER_SKIP_STATS = 8

IFINFOMSG = struct.Struct("=BxHiII")
"""``struct ifinfomsg``: family, type (``ARPHRD_…``), index, flags, change mask."""
IFADDRMSG = struct.Struct("=BBBBI")
"""``struct ifaddrmsg``: family, prefix length, flags, scope, index of the link."""
RTMSG = struct.Struct("=BBBBBBBBI")
"""``struct rtmsg``: family, length of destination and source, TOS, table, protocol, scope, type,
flags."""
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_PREFSRC = 1, 2, 4, 7


class Route(NamedTuple):
    """The way to an address: the index of the link, and the address that packets are from."""

    link: int
    source: bytes


class RouteSocket(NetlinkSocket):
    """A netlink socket to rtnetlink of the network namespace it is opened in."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)
        # Kernels that cannot check do not filter either, so all answers are filtered here as well.
        with suppress(OSError):
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def links(self) -> list[bytes]:
        """Every link: ``IFINFOMSG``, then its attributes, without statistics."""
        mask = attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
        return self._dump(RTM_GETLINK, IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + mask)

    def addresses(self, family: int) -> list[bytes]:
        """Every address of a family (``AF_…``): ``IFADDRMSG``, then its attributes."""
        answers = self._dump(RTM_GETADDR, IFADDRMSG.pack(family, 0, 0, 0, 0))
        # Asked for a family that it lacks, the kernel answers with the addresses of all families.
        return [answer for answer in answers if answer[0] == family]

    def local_routes(self, family: int) -> list[bytes]:
        """Every route of the local table of a family: ``RTMSG``, then its attributes."""
        request = RTMSG.pack(family, 0, 0, 0, RT_TABLE_LOCAL, 0, 0, 0, 0)
        try:
            answers = self._dump(RTM_GETROUTE, request)
        except FileNotFoundError:
            # The kernel makes the table when it gets its first address.
            return []
        return [answer for answer in answers if answer[0] == family and answer[4] == RT_TABLE_LOCAL]

    def default_routes(self, family: int) -> list[bytes]:
        """Every default route of a family, of whichever table: ``RTMSG``, then its attributes."""
        answers = self._dump(RTM_GETROUTE, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        return [answer for answer in answers if answer[0] == family and answer[1] == 0]

    def route(
        self, family: int, destination: bytes, source: bytes = b"", link: int = 0
    ) -> Route | None:
        """The way that packets of a family (``AF_…``) to an address take; None if there is none.

        `source` is the address that they are from, empty where the kernel is to choose it, and
        `link` the index of the link that they have to take, 0 for any.
        """
        lengths = len(destination) * 8, len(source) * 8
        request = RTMSG.pack(family, *lengths, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, destination)
        if source:
            request += attribute(_RTA_SRC, source)
        if link:
            request += attribute(_RTA_OIF, link.to_bytes(4, sys.byteorder))
        try:
            answer = self._ask(RTM_GETROUTE, request)
        except OSError:
            return None
        parts = dict(attributes(answer, RTMSG.size))
        if _RTA_OIF not in parts:
            return None
        taken = int.from_bytes(parts[_RTA_OIF], sys.byteorder)
        return Route(taken, parts.get(_RTA_PREFSRC) or source)
