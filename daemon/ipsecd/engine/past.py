"""Owns what is kept of the past: who changed what, what rules have matched, and what was in force.

It must not know what each of them keeps, nor where.
"""

from __future__ import annotations

from pathlib import Path

from ipsecd.config import Config
from ipsecd.engine.counting import Counting
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.history import History
from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.engine.this_boot import Boot
from ipsecd.sources.files import Disk


class Past:
    """The history, the counts, and the flight recorder."""

    def __init__(
        self,
        directory: Path,
        config: Config,
        disk: Disk | None,
        this_boot: Boot | None,
        enforcement: Enforcement,
    ) -> None:
        """They are kept below `directory`; `this_boot` names the boot of the host."""
        self.history = History(directory, disk)
        self.counting = Counting(directory, disk, enforcement)
        self.recorder = Recorder(directory, config, this_boot, disk)
        enforcement.listeners.append(self.recorder.heard)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be kept, in words."""
        return (*self.history.warnings, *self.counting.warnings, *self.recorder.warnings)

    def close(self, in_force: str) -> None:
        """Write what is not on disk yet; `in_force` says what is from now on, in words."""
        self.history.flush(all_rows=True)
        self.counting.keep(at_end=True)
        self.recorder.close(in_force)
