"""Owns one netlink socket to nf_tables: transactions and dumps as bytes; must not know our rules.

A transaction is sent in one write, and the kernel has answered all of it when the write returns:
either every message took effect at once, or none did. Sources: nfnetlink_rcv_batch in
net/netfilter/nfnetlink.c, include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ctypes import addressof, create_string_buffer
from errno import ENOBUFS
from itertools import count
from sys import byteorder
from typing import NamedTuple

from ipsecd.host.netlink import (
    HEADER,
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SO_ATTACH_FILTER,
    SO_NETNS_COOKIE,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    SOL_NETLINK,
    attribute,
    attributes,
    split,
)

NETLINK_NETFILTER = 12
NLMSGERR_ATTR_MSG = 1

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 0x10
NFNL_MSG_BATCH_END = 0x11
NFPROTO_UNSPEC = 0
NFPROTO_INET = 1
NFNLGRP_NFTABLES = 7
NFNL_BATCH_GENID = 1

ANSWER_S = 30
"""A dump of a million elements takes up to half of this time."""

_GENERIC = struct.Struct(">BBH")
_PORT_OFFSET = 12
"""Where the sender's port is in a message (``nlmsg_pid``). Filters load it as big-endian."""
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_RECEIVE_BYTES = 1 << 20
_PARTS = 1024
"""The most parts of one call (``UIO_MAXIOV`` in include/uapi/linux/uio.h)."""


class Message(NamedTuple):
    """One nf_tables request: its number (``NFT_MSG_…``), flags and encoded attributes.

    ``what`` names in an error what the message is about.
    """

    kind: int
    flags: int
    attributes: bytes
    what: str


class KernelError(Exception):
    """The kernel refused a transaction: which message, and why."""

    def __init__(self, errno: int, index: int, what: str, text: str) -> None:
        super().__init__(f"{what}: {os.strerror(errno)}{f' ({text})' if text else ''}")
        self.errno = errno
        self.index = index
        self.what = what


class NftSocket:
    """A netlink socket to nf_tables of the network namespace it is opened in."""

    def __init__(self, opened: socket.socket | None = None) -> None:
        """`opened` is the socket of an earlier process; without one a new socket is made."""
        if opened:
            self._socket = opened
            _forget_answers(opened)
        else:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
            self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        # Without this every error carries the whole message back, up to 64 KiB of elements.
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        # An answer that never comes must not hold the daemon for ever (struct timeval).
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", ANSWER_S, 0)
        )
        self._send_buffer = 0
        self._sequence = 0
        self.port: int = self._socket.getsockname()[0]

    def close(self) -> None:
        """Close the socket; a table it owns becomes an orphan, unless somebody else holds it."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._socket.fileno()

    def namespace(self) -> int:
        """A number for the network namespace that no other of this boot has had (Linux 5.14)."""
        cookie = self._socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        return int.from_bytes(cookie, byteorder)

    def commit(self, messages: Sequence[Message], generation: int | None = None) -> None:
        """Carry out `messages` as one transaction; raises ``KernelError`` if it is refused.

        With a `generation` it is refused (ERESTART) if that is not the one of now: any transaction
        in this network namespace, whoever carries it out, begins another.
        """
        first = self._sequence + 1
        self._sequence += len(messages) + 2
        begin = _GENERIC.pack(0, 0, NFNL_SUBSYS_NFTABLES)
        condition = b""
        if generation is not None:
            condition = attribute(NFNL_BATCH_GENID, generation.to_bytes(4, "big"))
        parts = [_message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first, begin, condition)]
        for number, message in enumerate(messages, first + 1):
            parts += _nft_parts(message, number)
        parts.append(_message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, self._sequence, begin, b""))
        self._reserve(sum(map(len, parts)))
        # A million elements are 20 MB, so they are not copied on the way to the kernel.
        self._socket.sendmsg(_in_few(parts))
        for sequence, errno, text in self._errors():
            if errno and first <= sequence <= self._sequence:
                index = sequence - first - 1
                what = messages[index].what if 0 <= index < len(messages) else "transaction"
                raise KernelError(errno, index, what, text)

    def request(
        self, message: Message, family: int = NFPROTO_INET, most_tries: int | None = None
    ) -> list[bytes]:
        """The attributes of every message that answers a dump or a look-up of one object.

        `family` is that of the tables that are meant (``NFPROTO_…``). A dump that a change
        interrupted is repeated. If all of `most_tries` are interrupted, what all of them found is
        the answer, in which something may be missing. Raises ``KernelError``.
        """
        found: list[bytes] = []
        for number in count(1):
            bodies, interrupted = self.request_once(message, family)
            if not interrupted:
                return bodies
            found += bodies
            if number == most_tries:
                break
        return found

    def request_once(
        self, message: Message, family: int = NFPROTO_INET
    ) -> tuple[list[bytes], bool]:
        """The same of one try, and whether a change interrupted it; raises ``KernelError``."""
        self._sequence += 1
        try:
            self._socket.send(_nft_message(message, self._sequence, family))
            return self._answers(message)
        except OSError as error:
            raise KernelError(error.errno or 0, 0, message.what, "") from error

    def _answers(self, message: Message) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in split(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    return bodies, interrupted
                if kind == NLMSG_ERROR:
                    errno, text = _error(flags, body)
                    if errno:
                        raise KernelError(errno, 0, message.what, text)
                    return bodies, interrupted
                bodies.append(body[4:])

    def _errors(self) -> Iterator[tuple[int, int, str]]:
        """The waiting acknowledgements: sequence number, errno (0 for success), text."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for kind, flags, sequence, body in split(data):
                if kind == NLMSG_ERROR:
                    yield sequence, *_error(flags, body)

    def _reserve(self, size: int) -> None:
        # The kernel takes a transaction only in one piece, so the buffer must hold all of it.
        if size > self._send_buffer:
            self._send_buffer = size + (1 << 16)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, self._send_buffer)


def _forget_answers(opened: socket.socket) -> None:
    """Discard what the kernel answered to an earlier process."""
    while True:
        try:
            opened.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != ENOBUFS:
                raise


def _without(port: int) -> tuple[tuple[int, int, int, int], ...]:
    """A socket filter (linux/filter.h) that drops what a port sent: operation, jumps, operand."""
    return (
        (_LOAD_WORD, 0, 0, _PORT_OFFSET),
        (_JUMP_IF_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
    )


class EventSocket:
    """A netlink socket that hears of changes to a table, except those made by our own socket."""

    def __init__(self, table: str, own_port: int) -> None:
        self._table = table.encode() + b"\0"
        self._own_port = own_port
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            NETLINK_NETFILTER,
        )
        self._socket.bind((0, 0))
        self._leave_out_own()
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def _leave_out_own(self) -> None:
        """Have the kernel deliver no events of our own changes.

        A few thousand elements are more than the socket has room for, and events that are lost
        count as somebody else's.
        """
        own = int.from_bytes(struct.pack("=I", self._own_port), "big")
        steps = b"".join(struct.pack("=HBBI", *step) for step in _without(own))
        memory = create_string_buffer(steps, len(steps))
        program = struct.pack("@HP", len(steps) // 8, addressof(memory))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def fileno(self) -> int:
        """The descriptor, readable when there are events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def foreign_change(self) -> bool:
        """Read all events; return whether any is a change to the table by somebody else.

        Events that were lost count as one.
        """
        changed = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise
                changed = True
                continue
            changed = changed or self._concerns_us(data)

    def _concerns_us(self, data: bytes) -> bool:
        offset = 0
        while offset + HEADER.size <= len(data):
            size, _, _, _, port = HEADER.unpack_from(data, offset)
            body = data[offset + HEADER.size : offset + size]
            if port != self._own_port and body[0] == NFPROTO_INET:
                name = dict(attributes(body[4:])).get(1)
                if name == self._table:
                    return True
            offset += max((size + 3) & ~3, HEADER.size)
        return False


def _message(kind: int, flags: int, sequence: int, generic: bytes, body: bytes) -> bytes:
    size = HEADER.size + len(generic) + len(body)
    return HEADER.pack(size, kind, flags, sequence, 0) + generic + body


def _nft_message(message: Message, sequence: int, family: int = NFPROTO_INET) -> bytes:
    return b"".join(_nft_parts(message, sequence, family))


def _nft_parts(message: Message, sequence: int, family: int = NFPROTO_INET) -> tuple[bytes, bytes]:
    """The headers of a message, and what follows them."""
    size = HEADER.size + _GENERIC.size + len(message.attributes)
    kind, flags = NFNL_SUBSYS_NFTABLES << 8 | message.kind, message.flags | NLM_F_REQUEST
    header = HEADER.pack(size, kind, flags, sequence, 0) + _GENERIC.pack(family, 0, 0)
    return header, message.attributes


def _in_few(parts: Sequence[bytes]) -> Sequence[bytes]:
    """The same bytes in no more parts than the kernel takes in one call."""
    if len(parts) <= _PARTS:
        return parts
    together = -(-len(parts) // _PARTS)
    return [b"".join(parts[n : n + together]) for n in range(0, len(parts), together)]


def _error(flags: int, body: bytes) -> tuple[int, str]:
    """The errno (0 for an acknowledgement) and the kernel's own words in an NLMSG_ERROR."""
    (negative,) = struct.unpack_from("=i", body)
    if not flags & NLM_F_ACK_TLVS:
        return -negative, ""
    (size,) = struct.unpack_from("=I", body, 4)
    start = 4 + HEADER.size if flags & NLM_F_CAPPED else 4 + size
    text = dict(attributes(body[start:])).get(NLMSGERR_ATTR_MSG, b"")
    return -negative, text.rstrip(b"\0").decode(errors="replace")
