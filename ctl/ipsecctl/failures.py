"""Owns the ways in which a command fails, and its exit codes; must not know any command."""

from __future__ import annotations

from ipsecd.errors import InvalidInput, IpsecdError, WouldCut

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

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


def fields(error: IpsecdError) -> dict[str, Any]:
    """`error` for programs: its name, as on the socket, what happened, and what to do about it."""
    name = {USAGE: "Usage", UNREACHABLE: "Unreachable"}.get(exit_code(error), error.wire)
    told: dict[str, Any] = {"error": name, "message": error.message, "hint": error.hint}
    if isinstance(error, InvalidInput):
        told |= {"source": error.source, "line": error.line, "position": error.position}
    if isinstance(error, WouldCut):
        told["cuts"] = [cut.fields() for cut in error.cuts]
    return told
