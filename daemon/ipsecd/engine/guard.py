"""Owns refusing a change that would cut a connection somebody works through; must not find any.

1. Only what a change makes worse is refused: what was cut before stays its own matter.
2. What is guarded is known to the thread that makes a change, and goes with its work into the
   kernel's line. So whatever puts a state in force is judged, and what the daemon does by itself
   is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ipsecd.backend.base import Line
from ipsecd.engine.judging import Comparison
from ipsecd.engine.state import State
from ipsecd.errors import Cut, WouldCut
from ipsecd.model.connections import Connection
from ipsecd.model.packets import Host

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Guarded:
    """The connections that a change must not cut, on a host with these addresses.

    ``way_out`` says what to type to make the change all the same.
    """

    connections: tuple[Connection, ...]
    host: Host
    way_out: str = ""


_GUARDED: ContextVar[Guarded | None] = ContextVar("guarded", default=None)


@contextmanager
def guarding(guarded: Guarded | None) -> Iterator[None]:
    """Have whatever is put in force in the block spare these connections."""
    token = _GUARDED.set(guarded)
    try:
        yield
    finally:
        _GUARDED.reset(token)


def carrying(line: Line) -> Line:
    """A line of work in which what is guarded is what whoever asks for the work guards."""

    def carry(work: Callable[[], T]) -> T:
        return line(partial(copy_context().run, work))

    return carry


def is_guarding() -> bool:
    """Whether anything is guarded in what this thread does."""
    return _GUARDED.get() is not None


def must_spare(before: State, after: State) -> None:
    """Raise ``WouldCut`` if `after` cuts a connection that is guarded, and `before` does not."""
    guarded = _GUARDED.get()
    if guarded is None or not after.enforcing:
        return
    cuts = newly_cut(before, after, guarded)
    if cuts:
        raise WouldCut.of(cuts, guarded.way_out)


def newly_cut(before: State, after: State, guarded: Guarded) -> list[Cut]:
    """What `after` cuts of the connections, and `before` does not."""
    comparison = Comparison(before, after, guarded.host)
    return [
        comparison.after.cut(connection, packet)
        for connection in guarded.connections
        if (packet := comparison.newly_blocked(connection))
    ]
