"""Owns what every backend says when the kernel refuses a change."""

from __future__ import annotations

from ipsecd.errors import BackendFailed


def not_taken(why: object) -> BackendFailed:
    """The error for a change that the kernel refused for a reason, and so did not happen."""
    return BackendFailed(f"the kernel did not take the change: {why}", "the old rules are in force")
