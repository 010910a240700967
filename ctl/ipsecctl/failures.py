"""Owns the ways in which a command fails, and its exit codes; must not know any command."""

from __future__ import annotations

from ipsecd.errors import InvalidInput, IpsecdError

DONE, REFUSED, USAGE, UNREACHABLE = 0, 1, 2, 3


class UsageError(IpsecdError):
    """The command line itself is not one that exists."""


class UnreachableError(IpsecdError):
    """The daemon cannot be asked, or did not answer."""


def exit_code(error: IpsecdError) -> int:
    """What the process ends with when `error` ends it."""
    if isinstance(error, UsageError):
        return USAGE
    return UNREACHABLE if isinstance(error, UnreachableError) else REFUSED


def describe(error: IpsecdError, program: str) -> str:
    """`error` as lines for stderr: what happened, where, and what to do about it."""
    where = ""
    if isinstance(error, InvalidInput) and error.line > 0:
        where = f"{error.source}:{error.line}: "
    lines = [f"{program}: {where}{error.message}"]
    if isinstance(error, InvalidInput) and error.line <= 0 <= error.position and error.source:
        lines += [f"  {_printable(error.source)}", f"  {' ' * error.position}^"]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """`text` with one sign in the place of each that would move the caret or the cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
