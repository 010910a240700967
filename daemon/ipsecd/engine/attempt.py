"""Owns undoing: a change is a list of steps, each with what undoes it; must not know any of them.

1. A step that fails has done nothing: it is atomic, or is an attempt itself.
2. What fails after some steps undoes all of them, the last one first.
3. An undoing that fails keeps none of the others from being tried, and is told.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from ipsecd.errors import IpsecdError

T = TypeVar("T")


class Attempt:
    """A change as a whole: used with ``with``, it has happened at the end or it has not."""

    def __init__(self) -> None:
        self._undos: list[Callable[[], object]] = []

    def step(self, do: Callable[[], T], undo: Callable[[T], object]) -> T:
        """Carry out a step and return its outcome, which `undo` is given if a later one fails."""
        outcome = do()
        self._undos.append(lambda: undo(outcome))
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        for undo in reversed(self._undos):
            try:
                undo()
            except IpsecdError as second:
                _tell(error, second)


def _tell(error: BaseException, second: IpsecdError) -> None:
    text = f"putting the old state back failed too: {second.message}"
    if isinstance(error, IpsecdError):
        error.hint = f"{error.hint}; {text}" if error.hint else text
    else:
        error.add_note(text)
