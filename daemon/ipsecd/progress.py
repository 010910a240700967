"""Owns telling the progress of long work; must not know the work, nor who listens.

Telling it costs one assignment and never waits. It may be done often, and in any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """What a change of policies is busy with, in words for people."""

    WAITING = "waiting for another change"
    READING = "reading"
    LOOKING_UP = "looking up names"
    COMPILING = "compiling"
    LOADING = "loading into the kernel"
    WRITING = "writing to disk"
    SWITCHING = "switching"
    KEEPING = "keeping it for the next start"


@dataclass(frozen=True, slots=True)
class Progress:
    """A phase, and how much of it is done; ``total`` is 0 if that is not counted."""

    phase: Phase
    done: int = 0
    total: int = 0


Tell = Callable[[Progress], None]
"""Takes the progress, in any thread, and returns at once."""


def silent(_: Progress) -> None:
    """Tell nobody."""


class LatestProgress:
    """Keeps only the newest progress, for a reader that is slower than the work."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def tell(self, progress: Progress) -> None:
        """Keep `progress` instead of what was told before."""
        self.progress = progress
