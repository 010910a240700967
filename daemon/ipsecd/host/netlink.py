"""Owns the layout of netlink messages and attributes; knows no subsystem and opens no socket.

Sources: include/uapi/linux/netlink.h, netlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

from ipsecd.model.addresses import Family

FAMILIES: Mapping[int, Family] = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6}
FAMILY_NUMBERS: Mapping[Family, int] = {family: number for number, family in FAMILIES.items()}
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_NETNS_COOKIE = 71

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

HEADER = struct.Struct("=IHHII")
"""``struct nlmsghdr``: length, kind, flags, sequence number, port."""
_ATTRIBUTE = struct.Struct("=HH")


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute: length, `kind`, `payload`, padded to four bytes."""
    size = 4 + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + b"\0" * (-size % 4)


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes laid end to end in `data` from `offset` on, as pairs of kind and payload."""
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages in received `data`: kind, flags, sequence number, what follows the header."""
    offset = 0
    while offset + HEADER.size <= len(data):
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, data[offset + HEADER.size : offset + size]
        offset += max((size + 3) & ~3, HEADER.size)
