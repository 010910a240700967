"""Owns asking the kernel questions over netlink, one at a time; must not know any subsystem.

Sources: netlink(7), net/netlink/af_netlink.c.
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
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SO_RCVBUFFORCE,
    split,
)

ATTEMPTS = 5
"""How often to ask for a dump that changes interrupt. If changes never cease, the last answer is
taken: each change also makes news, after which everything is read again."""
ANSWER_S = 30
_RECEIVE_BYTES = 1 << 16
"""The kernel fills at most 32 KiB at a time."""


class NetlinkSocket:
    """A netlink socket of one protocol, in the network namespace it is opened in."""

    def __init__(self, protocol: int) -> None:
        """`protocol` is one of ``NETLINK_…``."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._sequence = 0
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

    def _ask(self, kind: int, body: bytes) -> bytes:
        """The one answer to a question; raises ``OSError`` where the kernel answers with one."""
        self._send(kind, NLM_F_REQUEST, body)
        answers, _ = self._answers(only_one=True)
        return answers[0] if answers else b""

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        for _ in range(ATTEMPTS):
            self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
            answers, interrupted = self._answers()
            if not interrupted:
                break
        return answers

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(
            HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body
        )

    def _answers(self, *, only_one: bool = False) -> tuple[list[bytes], bool]:
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
                        raise OSError(code, f"netlink: {os.strerror(code)}")
                    return answers, interrupted
                answers.append(body)
                if only_one:
                    return answers, interrupted
