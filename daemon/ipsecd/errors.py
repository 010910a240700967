"""Owns every error that a user can cause or meet; must not know who reports it.

Each class is one error of ``io.ipsecd.control``, whose name there is ``wire``. An exception of any
other class is a bug: the service logs it with its traceback, and nothing has changed.
"""

from __future__ import annotations

from ipsecd.quoting import cut, excerpt, shorten

MAX_MESSAGE = 4000
MAX_HINT = 500
"""How many characters are kept at most, in case text of a user was put in unshortened."""


class IpsecdError(Exception):
    """What happened, and what to do about it.

    ``message`` quotes the user's input and says why it was not accepted; ``hint`` says what to
    do and may be empty. The same words go to the socket, to the log and to the terminal.
    """

    wire = "Failed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = cut(message, MAX_MESSAGE)
        self.hint = cut(hint, MAX_HINT)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InvalidInput(IpsecdError):
    """A value that cannot exist: text that does not parse, a document that breaks its schema.

    ``source`` names the file or the text that was read ("" when there is none), ``line`` counts
    from 1 (0: not known) and ``position`` is a character offset from 0 in the text (-1: not known).
    """

    wire = "InvalidInput"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        source: str = "",
        line: int = 0,
        position: int = -1,
    ) -> None:
        super().__init__(message, hint)
        self.source = source
        self.line = line
        self.position = position

    @property
    def where(self) -> str:
        """File and line, to be put before the message; "" if the line is not known."""
        return f"{shorten(self.source)}:{self.line}: " if self.line > 0 else ""

    @property
    def pointer(self) -> tuple[str, ...]:
        """Two lines: the part of the text around the wrong character, and a mark below that."""
        if self.line > 0 or self.position < 0 or not self.source:
            return ()
        part, position = excerpt(self.source, self.position)
        # An escape would take more than one column, and the mark would be in the wrong place.
        shown = "".join(char if char.isprintable() else "?" for char in part)
        return (f"  {shown}", f"  {' ' * position}^")

    def __str__(self) -> str:
        lines = [self.where + self.message, *self.pointer]
        return "\n".join([*lines, f"  hint: {self.hint}"] if self.hint else lines)


class NotFound(IpsecdError):
    """Something was named that does not exist."""

    wire = "NotFound"


class Refused(IpsecdError):
    """The request is understood and is not carried out: not supported, or in conflict."""

    wire = "Refused"


class LimitExceeded(IpsecdError):
    """More was asked for than the configuration allows."""

    wire = "LimitExceeded"


class StoreFailed(IpsecdError):
    """Something could not be written to disk or read from it; what was in force stays in force."""

    wire = "StoreFailed"


class BackendFailed(IpsecdError):
    """The kernel did not take a change; what was in force stays in force."""

    wire = "BackendFailed"
