"""Owns the time that a look may take as a whole, whatever it waits for.

A time-out of a socket begins anew with each byte, so a server that sends one byte a minute would
hold a look for ever. A signal interrupts whatever the main thread waits for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ipsecd_domain.fetcher.faults import TookTooLong

AGAIN_S = 1.0
"""The signal comes again, because code that is cleaning up may lose what it raises."""


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """Raise ``TookTooLong`` in the body after so many seconds; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_signal: int, _frame: object) -> None:
        raise TookTooLong(
            f"the source did not give all that was asked for within {seconds:g} s",
            "see whether it is overloaded, or what is between",
        )

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
