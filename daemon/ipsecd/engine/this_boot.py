"""Owns which boot of the host this is, and the clock that began with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ipsecd.sources.dynamic_file import name_of_boot


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot of this host: its name, and the clock that began with it, in seconds."""

    name: str
    clock: Callable[[], float]

    @classmethod
    def of_now(cls) -> Boot:
        """This boot, with the clock that also counts the time in which the host sleeps."""
        return cls(name_of_boot(os.environ), partial(time.clock_gettime, time.CLOCK_BOOTTIME))
