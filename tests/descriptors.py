"""Owns counting the descriptors of this process, for tests of what must not leave any open."""

from __future__ import annotations

import gc
from pathlib import Path


def open_descriptors() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def open_descriptors_at_first() -> int:
    """The same before a test does anything.

    What earlier tests left to be collected is closed now, and not in between. It is not called
    again afterwards: what only a collection closes was left open.
    """
    gc.collect()
    return open_descriptors()
