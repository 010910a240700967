"""Owns the errors for transactions that the kernel refuses: the one place from errno to words."""

from __future__ import annotations

import errno
import socket

from ipsecd.backend.failures import not_taken
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket
from ipsecd.errors import BackendFailed, LimitExceeded

DYNAMIC_SET_SIZE = 1 << 20
"""The most entries of one dynamic table. Room costs nothing until it is used; without a size the
kernel would take no more than 65,535."""


def failure(error: KernelError) -> BackendFailed | LimitExceeded:
    """The error for a refused transaction, with what to do about it."""
    if error.errno == errno.ENFILE:
        return LimitExceeded(
            f"the kernel's set is full: {error}",
            f"one dynamic table holds {DYNAMIC_SET_SIZE:,} entries; put long lists into a policy",
        )
    if error.errno == errno.EPERM:
        return BackendFailed(
            f"the kernel does not let us change the rules: {error}",
            "ipsecd needs CAP_NET_ADMIN, and its tables must not belong to another "
            "process: is another ipsecd running in this network namespace?",
        )
    return not_taken(error)


def open_socket(owner: socket.socket | None) -> NftSocket:
    """A socket to nf_tables, on that of an earlier process if there is one.

    Raises ``BackendFailed`` where the kernel has no nf_tables.
    """
    try:
        return NftSocket(owner)
    except OSError as error:
        raise BackendFailed(f"the kernel has no nf_tables: {error.strerror}") from error


def commit(connection: NftSocket, steps: list[Message]) -> None:
    """Carry out a transaction; raises ``BackendFailed`` or ``LimitExceeded``."""
    while steps:
        try:
            connection.commit(steps)
        except KernelError as error:
            is_missing = error.errno == errno.ENOENT and error.index >= 0
            if not is_missing or steps[error.index].kind != nft.DELSETELEM:
                raise failure(error) from error
            # The kernel ended the element after we looked at the clock.
            steps = [*steps[: error.index], *steps[error.index + 1 :]]
        except OSError as error:
            raise not_taken(error.strerror) from error
        else:
            return
