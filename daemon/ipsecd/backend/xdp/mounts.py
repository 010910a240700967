"""Owns where pins can be made, and where those of the maps are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAPS = "maps-"
"""The beginning of the names of the directories that hold pinned maps; a number follows."""


def map_directories(directory: Path) -> list[Path]:
    """The directories below `directory` that hold pinned maps."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.name.startswith(MAPS))


def number_of(path: Path) -> int:
    """The number of a directory of pinned maps: the newest has the greatest."""
    text = path.name.removeprefix(MAPS)
    return int(text) if text.isdecimal() else 0


def is_bpf_file_system(directory: Path) -> bool:
    """Whether pins can be made at `directory`, which need not exist yet."""
    path = directory.resolve()
    while not path.exists():
        path = path.parent
    kinds = dict(_mounts())
    while str(path) not in kinds:
        path = path.parent
    return kinds[str(path)] == "bpf"


def _mounts() -> Iterator[tuple[str, str]]:
    """Mount points and types of file systems, in the order of mounting (proc(5))."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        yield before.split()[4], after.split()[0]
