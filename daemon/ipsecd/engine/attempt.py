"""Owns undoing: a change is a list of steps, each with a function that undoes it.

It must not know what any step does.

1. A step that fails has done nothing: it is atomic, or is an attempt itself.
2. A failure after some steps undoes all of them, the last one first.
3. If an undoing fails, the others are tried all the same, and the error says so.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from ipsecd.errors import IpsecdError

T = TypeVar("T")


class Attempt:
    """A change that happens as a whole or not at all; used with ``with``."""

    def __init__(self) -> None:
        self._undos: list[Callable[[], object]] = []

    def step(self, do: Callable[[], T], undo: Callable[[T], object]) -> T:
        """Carry out a step and return its outcome, which `undo` is given if a later step fails."""
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
            except IpsecdError as undo_error:
                _add_to(error, undo_error)


def _add_to(error: BaseException, undo_error: IpsecdError) -> None:
    text = f"putting the old state back failed too: {undo_error.message}"
    if isinstance(error, IpsecdError):
        error.hint = f"{error.hint}; {text}" if error.hint else text
    else:
        error.add_note(text)
