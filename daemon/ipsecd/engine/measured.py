"""Owns what the daemon has done since it began, in numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Measured:
    """How often the kernel was given a whole state, and how long that took in all and at last.

    ``changed_at`` is when what is in force changed last, in seconds since the epoch, 0 if it never
    did. ``repaired`` is how often something was put right that others had changed. The kernel's
    line writes this, and any thread reads it.
    """

    applied: int = 0
    applied_s: float = 0.0
    applied_last_s: float = 0.0
    changed_at: float = 0.0
    repaired: int = 0

    @contextmanager
    def applying(self) -> Iterator[None]:
        """Measure the block if it succeeds."""
        begun = time.perf_counter()
        yield
        self.applied_last_s = time.perf_counter() - begun
        self.applied_s += self.applied_last_s
        self.applied += 1

    def change(self) -> None:
        """Note that what is in force has changed."""
        self.changed_at = time.time()

    def repair(self) -> None:
        """Note that a change of others was undone."""
        self.repaired += 1
