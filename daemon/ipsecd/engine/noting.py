"""Owns noting what a change of the state will change, before the kernel is told of it.

It must not know what is noted. Who notes is known to the thread that makes a change, and goes with
its work into the kernel's line, as what must be spared does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ipsecd.engine.state import State

Note = Callable[[State, State], None]
"""Notes the state before and the one after; what it raises prevents the change."""

_NOTE: ContextVar[Note | None] = ContextVar("note", default=None)


@contextmanager
def noting(note: Note | None) -> Iterator[None]:
    """Have `note` called before whatever is put in force in the block."""
    token = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(token)


def note_change(before: State, after: State) -> None:
    """Tell whoever notes that `after` is about to be put in force."""
    if note := _NOTE.get():
        note(before, after)
