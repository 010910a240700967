"""Owns the netlink socket on which the kernel tells of packets that a rule logs; knows no rules.

Sources: include/uapi/linux/netfilter/nfnetlink_log.h, net/netfilter/nfnetlink_log.c. A group is of
one network namespace, and belongs to the socket that has bound it until that is closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock

from ipsecd.backend.nftables.naming import AUDITED
from ipsecd.backend.nftables.told import AT_ONCE
from ipsecd.backend.nftables.wire import NETLINK_NETFILTER
from ipsecd.backend.reporting import SNAP_BYTES, Report
from ipsecd.errors import Refused
from ipsecd.host.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    SO_RCVBUFFORCE,
    attribute,
    attributes,
    split,
)
from ipsecd.model.packets import Point
from ipsecd.model.values import Action

_SUBSYSTEM = 4
_PACKET, _CONFIG = 0, 1
_CFG_CMD, _CFG_MODE, _CFG_BUFFER, _CFG_TIMEOUT, _CFG_THRESHOLD = 1, 2, 3, 4, 5
_BIND = 1
_COPY_PACKET = 2
_HEADER, _TIMESTAMP, _IN, _OUT, _PAYLOAD, _PREFIX = 1, 3, 4, 5, 9, 10
_LINK_TYPE, _LINK_HEADER = 15, 16
_GENERIC = struct.Struct(">BBH")
_TIME = struct.Struct(">QQ")
_ETHERNET, _ETHERNET_BYTES = 1, 14

_POINTS = {
    0: Point.ARRIVING,
    1: Point.ARRIVING,
    3: Point.SENDING,
    4: Point.LEAVING,
}
"""The point that the number of a hook stands for (``enum nf_inet_hooks``)."""

FIRST_GROUP, GROUPS = 0x4950, 256
"""The groups to choose from: "IP" and those that follow. Other programs take low numbers."""
HELD_BACK = 5
"""How long the kernel waits for more packets before it tells of some, in hundredths of a second."""
_MESSAGE_BYTES = 1 << 15
_RECEIVE_BYTES = 1 << 17
_WAITING_BYTES = 4 << 20
"""What the kernel keeps of what is not read, about ten thousand packets."""


class LogSocket:
    """Listens to a group that nobody else listens to; made and closed in the kernel's line."""

    def __init__(self) -> None:
        """Raises ``Refused`` where the kernel cannot tell of packets."""
        self._lock = Lock()
        self._waiting: deque[Report] = deque()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _WAITING_BYTES)
            self.group = self._bind_group()
            self._ask(
                attribute(_CFG_MODE, struct.pack(">IBB", SNAP_BYTES, _COPY_PACKET, 0)),
                attribute(_CFG_BUFFER, struct.pack(">I", _MESSAGE_BYTES)),
                attribute(_CFG_TIMEOUT, struct.pack(">I", HELD_BACK)),
                attribute(_CFG_THRESHOLD, struct.pack(">I", AT_ONCE)),
            )
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise Refused(
                f"the kernel cannot tell of packets: {error.strerror}",
                "it needs nfnetlink_log: try modprobe nfnetlink_log; ipsecctl doctor says more",
            ) from error

    def fileno(self) -> int:
        """The descriptor, readable when the kernel has told of packets; -1 once it is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        with self._lock:
            self._socket.close()

    def read(self, most: int) -> list[Report]:
        """What waits to be read, at most so much."""
        with self._lock:
            while len(self._waiting) < most and (data := self._receive()):
                self._waiting.extend(_reports(data))
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _receive(self) -> bytes:
        """One message of the kernel; b"" if there is none."""
        if self._socket.fileno() < 0:
            return b""
        while True:
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return b""
            except OSError as error:
                # Some were lost, which their count tells.
                if error.errno != errno.ENOBUFS:
                    raise

    def _bind_group(self) -> int:
        """Bind a group; whether somebody else has bound it is known only when it is tried."""
        failure = OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for number in range(GROUPS):
            self.group = FIRST_GROUP + (os.getpid() + number) % GROUPS
            try:
                self._ask(attribute(_CFG_CMD, bytes((_BIND,))))
            except OSError as error:
                # The kernel says of a group that is another's that it is not permitted.
                if error.errno not in (errno.EBUSY, errno.EPERM):
                    raise
                failure = error
            else:
                return self.group
        raise failure

    def _ask(self, *parts: bytes) -> None:
        """Have the group configured; raises ``OSError``."""
        body = _GENERIC.pack(0, 0, self.group) + b"".join(parts)
        kind, flags = _SUBSYSTEM << 8 | _CONFIG, NLM_F_REQUEST | NLM_F_ACK
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body)
        while True:
            for answer, _, _, said in split(self._socket.recv(_RECEIVE_BYTES)):
                if answer == NLMSG_ERROR:
                    (negative,) = struct.unpack_from("=i", said)
                    if negative:
                        raise OSError(-negative, os.strerror(-negative))
                    return


def _reports(data: bytes) -> Iterator[Report]:
    """The packets in a message of the kernel."""
    for kind, _, _, body in split(data):
        if kind == _SUBSYSTEM << 8 | _PACKET:
            # What cannot be read would be a packet that the kernel told of in another form.
            with suppress(struct.error, KeyError, IndexError):
                yield _report(dict(attributes(body, _GENERIC.size)))


def _report(told: dict[int, bytes]) -> Report:
    """One packet, from the attributes that tell of it."""
    point, packet = _POINTS[told[_HEADER][2]], told[_PAYLOAD]
    at_ns = time.time_ns()
    if stamp := told.get(_TIMESTAMP):
        seconds, microseconds = _TIME.unpack(stamp)
        at_ns = seconds * 1_000_000_000 + microseconds * 1000
    interface = told.get(_IN if point is Point.ARRIVING else _OUT, b"")
    header = told.get(_LINK_HEADER, b"")
    is_ethernet = told.get(_LINK_TYPE) == struct.pack(">H", _ETHERNET)
    is_audit = told.get(_PREFIX, b"").rstrip(b"\0") == AUDITED.encode()
    return Report(
        at_ns,
        Action.AUDIT if is_audit else Action.BLOCK,
        point,
        int.from_bytes(interface, "big"),
        _length(packet),
        header if is_ethernet and len(header) == _ETHERNET_BYTES else b"",
        packet,
    )


def _length(packet: bytes) -> int:
    """The bytes of the whole packet, as its header says; those that are here where it does not."""
    said = 0
    if packet and packet[0] >> 4 == 4:
        said = int.from_bytes(packet[2:4], "big")
    elif packet and packet[0] >> 4 == 6:
        said = 40 + int.from_bytes(packet[4:6], "big")
    return max(said, len(packet))
