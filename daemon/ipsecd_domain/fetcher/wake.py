"""Owns how threads wake the one that looks; must not know why they do."""

from __future__ import annotations

import threading
import time
from enum import Enum

LONGEST_S = 60.0
"""The clock is read at least so often: of a host that was suspended it has moved on by itself."""


class Reason(Enum):
    """What happened that may make a look due."""

    DAEMON = "the daemon asks, or has come back"
    FILES = "files of the source have changed"
    RING = "the doorbell was rung"


class Wake:
    """Reasons that were told and not heard yet; each at most once, so it never grows."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reasons: set[Reason] = set()

    def tell(self, reason: Reason) -> None:
        """Wake the one that waits, or let it not wait when it comes."""
        with self._changed:
            self._reasons.add(reason)
            self._changed.notify()

    def wait_until(self, when: float) -> frozenset[Reason]:
        """The reasons since the last time; none once `when`, in seconds of ``now``, has come."""
        with self._changed:
            while not self._reasons and (left := when - now()) > 0:
                self._changed.wait(min(left, LONGEST_S))
            reasons = frozenset(self._reasons)
            self._reasons.clear()
        return reasons


def now() -> float:
    """Seconds since the host was started, those that it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
