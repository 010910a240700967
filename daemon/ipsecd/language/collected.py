"""Owns the errors of a document that is read on after the first; must not know what it is about."""

from __future__ import annotations

from ipsecd.errors import InvalidInput

MAX_ERRORS = 100
"""How many are kept: a file of another kind can have one on each of a million lines."""


class CollectedErrors:
    """The errors that were met first, in that order, and how many there are of all."""

    def __init__(self) -> None:
        self.first: list[InvalidInput] = []
        self.count = 0

    def add(self, error: InvalidInput) -> None:
        """Count `error`, and keep it if there is room, without what was read when it was met."""
        self.count += 1
        if len(self.first) < MAX_ERRORS:
            error.__context__ = error.__cause__ = None
            self.first.append(error.with_traceback(None))

    @property
    def by_line(self) -> list[InvalidInput]:
        """Those that are kept, in the order of their lines: a rule is judged after its filters."""
        return sorted(self.first, key=lambda error: error.line)

    @property
    def more(self) -> int:
        """How many are not kept."""
        return self.count - len(self.first)
