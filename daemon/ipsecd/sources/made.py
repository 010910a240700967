"""Owns telling whether a change of files was made before its process ended; writes nothing.

What changes with it elsewhere is kept until then with what the change was to write. Only those
files count: others may have been edited since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from ipsecd.sources.files import Disk
from ipsecd.sources.reading import MAX_FILE_BYTES
from ipsecd.sources.steps import Step, UnusableJournal, interrupted

Written = Mapping[str, str]
"""What a change writes, by path: the SHA-256 of a text, a target behind "->", "" for nothing."""


def written_by(steps: Sequence[Step]) -> Written:
    """What `steps` write."""
    return {step.path: _of(step.text, step.target) for step in steps}


def is_made(disk: Disk, directory: Path, written: Written) -> bool:
    """Whether a change that was to write this was made, or is to be finished from its journal."""
    try:
        steps = interrupted(disk, directory)
    except UnusableJournal:
        steps = None
    if steps is not None and written_by(steps) == written:
        return True
    return all(
        _link(directory / path) == content
        if content.startswith("->")
        else _now(disk, directory / path) == content
        for path, content in written.items()
    )


def _link(file: Path) -> str:
    return f"->{file.readlink()}" if file.is_symlink() else ""


def _now(disk: Disk, file: Path) -> str | None:
    """What a file holds, in the same words; None if that cannot be read."""
    try:
        text = disk.read(file, MAX_FILE_BYTES)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    return sha256(text).hexdigest()


def _of(text: str | None, target: str | None) -> str:
    if target is not None:
        return f"->{target}"
    return "" if text is None else sha256(text.encode()).hexdigest()
