"""Owns asking connection tracking for its entries; must not know what they are asked for.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ipsecd.host.netlink import FAMILIES, FAMILY_NUMBERS, attribute, attributes
from ipsecd.host.netlink_socket import NetlinkSocket
from ipsecd.model.addresses import Family

NETLINK_NETFILTER = 12
UNKNOWN = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})
"""What a kernel answers that knows no netfilter, or has no connection tracking to be asked."""
_GET = 1 << 8 | 1
"""NFNL_SUBSYS_CTNETLINK and IPCTNL_MSG_CT_GET."""
_NFGENMSG = struct.Struct(">BBH")
_NESTED = 0x8000
_ORIGINAL, _REPLY, _STATUS, _PROTOCOL_INFO = 1, 2, 3, 4
_ADDRESSES, _PROTOCOL = 1, 2
_IP = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
"""The attributes of source and destination."""
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_SEEN_REPLY = 1 << 1
_TCP, _TCP_STATE = 1, 1
TCP_STATES = (
    *("none", "syn-sent", "syn-recv", "established", "fin-wait", "close-wait", "last-ack"),
    *("time-wait", "close", "syn-sent"),
)
"""The states of TCP connections (``enum tcp_conntrack``), by the words of ss(8) and its like."""
ENDED = frozenset({"time-wait", "close"})
"""The states in which a connection is over, and its entry is kept for a while."""


@dataclass(frozen=True, slots=True)
class Way:
    """Addresses and ports of the packets of one direction; ports are 0 where there are none."""

    family: Family
    protocol: int
    source: int
    source_port: int
    destination: int
    destination_port: int

    @property
    def reversed(self) -> Way:
        """The way back, if no address is translated."""
        return Way(
            self.family,
            self.protocol,
            self.destination,
            self.destination_port,
            self.source,
            self.source_port,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A connection as it is tracked: its first packets, and what answers are expected to be.

    Where addresses are translated, one is not the reverse of the other. ``is_answered`` says that
    packets were seen in both directions. ``state`` is one of TCP_STATES, empty if it is not TCP.
    """

    original: Way
    reply: Way
    is_answered: bool
    state: str = ""


class Conntrack(NetlinkSocket):
    """A netlink socket to connection tracking of the network namespace it is opened in."""

    def __init__(self) -> None:
        super().__init__(NETLINK_NETFILTER)

    def entry(self, way: Way) -> Entry | None:
        """The entry of the connection of which packets go this way; None if there is none."""
        body = _NFGENMSG.pack(FAMILY_NUMBERS[way.family], 0, 0) + _tuple(way)
        try:
            return _entry(self._ask(_GET, body))
        except OSError:
            return None

    def entries(self) -> Iterator[Entry]:
        """Every entry; none where the kernel tracks nothing. Raises ``OSError``."""
        try:
            answers = self._dump(_GET, _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))
        except OSError as error:
            if error.errno in UNKNOWN:
                return
            raise
        for answer in answers:
            entry = _entry(answer)
            if entry:
                yield entry


def _tuple(way: Way) -> bytes:
    size = way.family.bits // 8
    addresses = b"".join(
        attribute(kind, address.to_bytes(size, "big"))
        for kind, address in zip(_IP[way.family], (way.source, way.destination), strict=True)
    )
    protocol = attribute(_NUMBER, bytes((way.protocol,)))
    protocol += attribute(_SOURCE_PORT, way.source_port.to_bytes(2, "big"))
    protocol += attribute(_DESTINATION_PORT, way.destination_port.to_bytes(2, "big"))
    return attribute(
        _ORIGINAL | _NESTED,
        attribute(_ADDRESSES | _NESTED, addresses) + attribute(_PROTOCOL | _NESTED, protocol),
    )


def _entry(answer: bytes) -> Entry | None:
    family = FAMILIES.get(answer[0]) if answer else None
    if family is None:
        return None
    parts = dict(attributes(answer, _NFGENMSG.size))
    original, reply = (_way(family, parts.get(kind, b"")) for kind in (_ORIGINAL, _REPLY))
    if original is None or reply is None:
        return None
    status = int.from_bytes(parts.get(_STATUS, b""), "big")
    return Entry(original, reply, bool(status & _SEEN_REPLY), _state(parts.get(_PROTOCOL_INFO)))


def _state(info: bytes | None) -> str:
    if info is None:
        return ""
    of_tcp = dict(attributes(dict(attributes(info)).get(_TCP, b"")))
    number = int.from_bytes(of_tcp.get(_TCP_STATE, b""), "big")
    return TCP_STATES[number] if 0 < number < len(TCP_STATES) else ""


def _way(family: Family, data: bytes) -> Way | None:
    parts = dict(attributes(data))
    addresses = dict(attributes(parts.get(_ADDRESSES, b"")))
    protocol = dict(attributes(parts.get(_PROTOCOL, b"")))
    source, destination = (addresses.get(kind) for kind in _IP[family])
    if source is None or destination is None or _NUMBER not in protocol:
        return None
    ports = (
        int.from_bytes(protocol.get(kind, b""), "big") for kind in (_SOURCE_PORT, _DESTINATION_PORT)
    )
    return Way(
        family,
        protocol[_NUMBER][0],
        int.from_bytes(source, "big"),
        next(ports),
        int.from_bytes(destination, "big"),
        next(ports),
    )
