"""Owns when Python looks for garbage; must not know what is made meanwhile.

Whoever makes a million values that all stay, none of them part of a cycle, pays a quarter of the
time for looks at them that find nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Pauses:
    """How many pauses there are, and whether there were looks before the first."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.count = 0
        self.goes_on = False


_PAUSES = _Pauses()


@contextmanager
def collection_paused() -> Iterator[None]:
    """Look for no garbage while the block runs, in any thread; pauses can overlap."""
    with _PAUSES.lock:
        if not _PAUSES.count:
            _PAUSES.goes_on = gc.isenabled()
        _PAUSES.count += 1
        gc.disable()
    try:
        yield
    finally:
        with _PAUSES.lock:
            _PAUSES.count -= 1
            if not _PAUSES.count and _PAUSES.goes_on:
                gc.enable()
