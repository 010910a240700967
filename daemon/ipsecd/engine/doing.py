"""Owns who makes the change that is being made; must not know what it changes.

It is known to the thread that makes a change, and goes with its work into the kernel's line, as
what must be spared does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ipsecd.engine.history import Deed

MakeDeed = Callable[[], Deed]

_DEED: ContextVar[MakeDeed | None] = ContextVar("deed", default=None)


@contextmanager
def doing(make_deed: MakeDeed) -> Iterator[None]:
    """Have whatever is put in force in the block be what `make_deed` says, if anybody asks."""
    token = _DEED.set(make_deed)
    try:
        yield
    finally:
        _DEED.reset(token)


def deed_of_now() -> MakeDeed | None:
    """What says who makes the change that this thread is making; None: the daemon by itself."""
    return _DEED.get()
