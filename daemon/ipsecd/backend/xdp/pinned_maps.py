"""Owns the directories in which maps are pinned; must not know what is in force.

Each set of maps has one of its own, ``maps-NUMBER``, and the highest number is the newest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.base import Count
from ipsecd.backend.xdp.counters import pinned_state
from ipsecd.model.values import Origin

_MAPS = "maps-"


class PinnedMaps:
    """The directories below one directory of a BPF file system."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directories(self) -> list[Path]:
        """All of them, the oldest first."""
        if not self._directory.is_dir():
            return []
        paths = (p for p in self._directory.iterdir() if p.name.startswith(_MAPS))
        return sorted(paths, key=_number)

    def following(self) -> Path:
        """The one for the next maps, which is not there yet."""
        number = 1 + max(map(_number, self.directories()), default=0)
        return self._directory / f"{_MAPS}{number}"

    def state(self) -> tuple[str | None, dict[Origin, Count]]:
        """What an earlier process left: the digest of its policy, and the counts of its rules."""
        return _state(self.directories())

    @staticmethod
    def counts(directories: Iterable[Path]) -> dict[Origin, Count]:
        """What the rules have matched whose maps are pinned in the last of these directories."""
        return _state(directories)[1]


def remove(directories: Iterable[Path]) -> None:
    """Unpin the maps in these; what cannot be unpinned stays."""
    for path in directories:
        shutil.rmtree(path, ignore_errors=True)


def _state(directories: Iterable[Path]) -> tuple[str | None, dict[Origin, Count]]:
    for path in reversed(list(directories)):
        with suppress(OSError):
            return pinned_state(path)
    return None, {}


def _number(path: Path) -> int:
    text = path.name.removeprefix(_MAPS)
    return int(text) if text.isdecimal() else 0
