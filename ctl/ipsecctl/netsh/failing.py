"""Owns the ways in which a line of ``netsh`` fails; must not know any command.

What goes to standard output begins with ``ERR``, and never repeats the name of what was looked for:
scripts search the output of ``show`` for the name to find out whether it exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.quoting import quote, visible

NO_POLICY = "05072"
LIST_EXISTS = "05010"
ACTION_EXISTS = "05014"
NO_STORE = "05073"
"""Numbers that scripts know. Those that follow are of this program alone."""
NOT_UNDERSTOOD = "05000"
NOT_DONE_HERE = "05001"
ABSENT = "05002"
EXISTS = "05003"
IN_USE = "05004"
FAILED = "05005"


class Failure(IpsecdError):
    """A line that was not carried out; it has changed nothing.

    With ``tolerated`` that is because of what exists or does not exist, and the other lines of a
    file are carried out all the same.
    """

    tolerated = False

    def __init__(self, message: str, hint: str = "", number: str = NOT_UNDERSTOOD) -> None:
        super().__init__(message, hint)
        self.number = number


class NotUnderstood(Failure):
    """The words make no command."""


class NotDoneHere(Failure):
    """The command is understood, and asks for what this system does not do.

    ``details`` are lines that say more than a hint has room for.
    """

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint, NOT_DONE_HERE)
        self.details = details


class Conflict(Failure):
    """Something exists already, does not exist, or is in use."""

    tolerated = True

    def __init__(self, message: str, hint: str = "", number: str = ABSENT) -> None:
        super().__init__(message, hint, number)


class AsWanted(Conflict):
    """What was to be made is there already, just so."""


def absent(noun: str, name: str, others: Iterable[str] = (), number: str = ABSENT) -> Conflict:
    """The failure for a `noun` that is not there; `others` are the names of those that are."""
    same = next((each for each in others if each.casefold() == name.casefold()), None)
    hint = f"there is no {noun} {quote(name)}"
    if same is not None:
        hint += f", only {quote(same)}: letter case counts"
    return Conflict(f"there is no such {noun}", hint, number)


def exists(noun: str, name: str, number: str = EXISTS) -> Conflict:
    """The failure for a `noun` that is there already."""
    return Conflict(f"this {noun} exists already", f"{noun} {quote(name)} is left as it is", number)


def error_line(error: IpsecdError, place: str = "") -> str:
    """What standard output is told of an error; `place` says where the line stands."""
    number = error.number if isinstance(error, Failure) else FAILED
    if isinstance(error, InvalidInput):
        number = NOT_UNDERSTOOD
    return f"ERR IPsec[{number}] : {visible(place + error.message)}"


def hint_lines(error: IpsecdError) -> list[str]:
    """What standard error is told of an error."""
    details = error.details if isinstance(error, NotDoneHere) else ()
    return [*([error.hint] if error.hint else []), *details]


def is_tolerated(error: IpsecdError) -> bool:
    """Whether the other lines of a file are carried out all the same."""
    return isinstance(error, Failure) and error.tolerated
