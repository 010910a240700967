"""Owns every error that a user can cause or meet; must not know who reports it.

Each class is one error of ``io.ipsecd.control``, whose name there is ``wire``. An exception of any
other class is a bug: the service logs it with its traceback, and nothing has changed.
"""

from __future__ import annotations

from ipsecd.quoting import count, cut, excerpt, quote, shorten

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


class Cut:
    """A connection that a change would cut: a packet of it, and the filter that blocks this packet.

    ``rule``, ``policy`` and ``store`` say where the filter was written, as in ``Origin``; all are
    empty where no filter decides.
    """

    __slots__ = NAMES = ("connection", "packet", "filter", "rule", "policy", "store")

    def __init__(
        self,
        connection: str,
        packet: str,
        filter: str = "",  # noqa: A002 - as it is called on the wire
        rule: str = "",
        policy: str = "",
        store: str = "",
    ) -> None:
        self.connection = connection
        self.packet = packet
        self.filter = filter
        self.rule = rule
        self.policy = policy
        self.store = store

    def fields(self) -> dict[str, str]:
        """What it says, by name."""
        return {name: getattr(self, name) for name in self.NAMES}

    def __str__(self) -> str:
        policy = f" of policy {quote(self.policy)}" if self.policy else ""
        by = f"{quote(self.filter)} in rule {quote(self.rule)}{policy}" if self.rule else "the rest"
        return f"{self.connection}, because {by} blocks {quote(self.packet)}"


MOST_CUTS = 100
"""How many of the connections that a change would cut an error carries."""


class WouldCut(Refused):
    """A change would cut a connection that somebody works through."""

    wire = "WouldCut"

    def __init__(self, message: str, hint: str = "", cuts: tuple[Cut, ...] = ()) -> None:
        super().__init__(message, hint)
        self.cuts = cuts[:MOST_CUTS]

    @classmethod
    def of(cls, cuts: list[Cut], hint: str) -> WouldCut:
        """The error for connections, of which there is one at least."""
        others = len(cuts) - 1
        more = f", and {count(others, 'other connection')}" if others else ""
        return cls(f"it would cut {cuts[0]}{more}; nothing has changed", hint, tuple(cuts))


class Changed(Refused):
    """Somebody else has changed what a change was worked out from: it is to be worked out anew."""

    wire = "Changed"


class LimitExceeded(IpsecdError):
    """More was asked for than the configuration allows."""

    wire = "LimitExceeded"


class StoreFailed(IpsecdError):
    """Something could not be written to disk or read from it; what was in force stays in force."""

    wire = "StoreFailed"


class BackendFailed(IpsecdError):
    """The kernel did not take a change; what was in force stays in force."""

    wire = "BackendFailed"
