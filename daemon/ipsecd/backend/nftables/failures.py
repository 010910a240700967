"""Owns what is said when the kernel refuses: one place from errno to words."""

from __future__ import annotations

import errno

from ipsecd.backend.nftables.wire import KernelError
from ipsecd.errors import BackendFailed, LimitExceeded

DYNAMIC_SET_SIZE = 1 << 20
"""The most entries of one dynamic table. It costs nothing until they are there; without a size
the kernel would stop at 65,535 on its own."""


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
    return BackendFailed(
        f"the kernel did not take the change: {error}", "the old rules are in force"
    )
