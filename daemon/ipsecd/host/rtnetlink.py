"""Owns asking rtnetlink for links, addresses and local routes; must not know what they mean.

It hands on the kernel's bytes as they are, because to decode every attribute of ten thousand
addresses takes seconds. Sources: net/core/rtnetlink.c, rtnetlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from typing import Self

from ipsecd.host.netlink import (
    HEADER,
    NETLINK_GET_STRICT_CHK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SO_RCVBUFFORCE,
    SOL_NETLINK,
    attribute,
    split,
)

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

ATTEMPTS = 5
"""How often to ask for a dump that changes interrupt. If changes never cease, the last answer is
taken: each change also makes news, after which everything is read again."""
ANSWER_S = 30
_RECEIVE_BYTES = 1 << 16
"""The kernel fills at most 32 KiB at a time."""


class RouteSocket:
    """A netlink socket to rtnetlink of the network namespace it is opened in."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0
        # Kernels that cannot check do not filter either, so all answers are filtered here as well.
        with suppress(OSError):
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        with suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        # An answer that never comes must not hold the daemon for ever (struct timeval).
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", ANSWER_S, 0)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

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

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        for _ in range(ATTEMPTS):
            self._sequence += 1
            size = HEADER.size + len(body)
            header = HEADER.pack(size, kind, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0)
            self._socket.send(header + body)
            answers, interrupted = self._answers()
            if not interrupted:
                break
        return answers

    def _answers(self) -> tuple[list[bytes], bool]:
        """The answers to the last request, and whether something changed while they came."""
        answers: list[bytes] = []
        interrupted = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                interrupted = True
                continue
            for kind, flags, sequence, body in split(data):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    # NLMSG_DONE carries an error that happened after the dump had begun.
                    code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                    if code:
                        raise OSError(code, f"rtnetlink: {os.strerror(code)}")
                    return answers, interrupted
                answers.append(body)
