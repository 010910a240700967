"""Owns what is said when the kernel refuses a map or an entry."""

from __future__ import annotations

from ipsecd.errors import BackendFailed


def not_taken(error: OSError) -> BackendFailed:
    """The error for a refused call, which changed nothing."""
    return BackendFailed(
        f"the kernel did not take the change: {error.strerror}", "the old rules are in force"
    )
