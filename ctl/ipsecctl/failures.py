"""Owns the ways in which a command fails, and its exit codes; must not know any command."""

from __future__ import annotations

from ipsecd.errors import IpsecdError

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3
INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells have it."""


class UsageError(IpsecdError):
    """The command line itself is not one that exists."""


class UnreachableError(IpsecdError):
    """The daemon cannot be asked, or did not answer."""


def exit_code(error: IpsecdError) -> int:
    """The exit code of a command that `error` ends."""
    if isinstance(error, UsageError):
        return USAGE
    return UNREACHABLE if isinstance(error, UnreachableError) else REFUSED


def describe(error: IpsecdError, program: str) -> str:
    """`error` as lines for stderr: what happened, where, and what to do about it."""
    return f"{program}: {error}"
