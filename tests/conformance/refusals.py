"""Makes the kernel refuse one of the calls that change something."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket
from ipsecd.backend.xdp import libbpf
from ipsecd.errors import IpsecdError

MUTATING = ("update", "delete", "create", "pin", "load", "freeze", "attach")
"""Words in the names of the calls of libbpf that change something."""


def error_of(call: Callable[[], object]) -> IpsecdError | OSError | None:
    """The error that `call` raises, if a backend may raise it; None if there is none."""
    try:
        call()
    except (IpsecdError, OSError) as error:
        return error
    return None


@dataclass
class Refusals:
    """How many calls are still let through, and whether one has been refused."""

    calls_left: int
    refused: bool = False

    def refuses(self) -> bool:
        """Whether it is this call's turn to be refused."""
        self.calls_left -= 1
        self.refused = self.refused or self.calls_left == -1
        return self.calls_left == -1


def following(number: int, error: Exception | None) -> int:
    """The number of the call to refuse after call `number`: the next if that raised an `error`.

    If it raised none, a call that takes programs away was refused, and they must be loaded again,
    which takes long. So only a few of those calls are tried here; every one is tried in
    ``tests/netns/test_combined.py``.
    """
    return number + (1 if error else 23)


@contextmanager
def refusals(number: int) -> Iterator[Refusals]:
    """Refuse the call of this `number`, counted from 0, for want of memory."""
    turn = Refusals(number)
    call, map_lines, commit = libbpf._call, libbpf.map_lines, NftSocket.commit

    def call_or_refuse(name: str, *arguments: Any) -> int:
        if any(word in name for word in MUTATING) and turn.refuses():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), name)
        return call(name, *arguments)

    def map_or_refuse(descriptor: int, lines: int, *, writable: bool = True) -> mmap.mmap:
        if writable and turn.refuses():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return map_lines(descriptor, lines, writable=writable)

    def commit_or_refuse(sock: NftSocket, messages: Sequence[Message]) -> None:
        if turn.refuses():
            raise KernelError(errno.ENOMEM, -1, "transaction", "")
        commit(sock, messages)

    with (
        patch.object(libbpf, "_call", call_or_refuse),
        patch.object(libbpf, "map_lines", map_or_refuse),
        patch.object(NftSocket, "commit", commit_or_refuse),
    ):
        yield turn
