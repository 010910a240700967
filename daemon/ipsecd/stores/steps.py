"""Owns changes to several files that happen as one: a journal, written first, that can be redone.

A change is a list of steps, each of which can be repeated without harm. All that needs space is
written first, under names that nobody reads; then the journal, which holds all steps with a
checksum. Once it is on disk the change will happen: whoever finds a complete journal carries it
out again from the start. An incomplete one is a change that never began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipsecd.stores.files import TEMPORARY, Disk, replace_file

JOURNAL = ".journal"


@dataclass(frozen=True, slots=True)
class Step:
    """One file's new state: its text, the target of a link, or (both None) its absence.

    ``path`` is relative to the directory of the journal.
    """

    path: str
    text: str | None = None
    target: str | None = None


class NotBegun(OSError):
    """The disk refused before anything had changed."""


def carry_out(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    """Carry out `steps` as one change, on disk when this returns.

    Raises ``NotBegun`` if nothing has changed. After another ``OSError`` it is not known how far
    it came: carry out the steps that lead back.
    """
    body = json.dumps([[s.path, s.text, s.target] for s in steps], ensure_ascii=False).encode()
    journal = directory / JOURNAL
    try:
        for step in steps:
            _prepare(disk, directory / step.path, step)
        replace_file(disk, journal, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    except OSError as error:
        abandon(disk, directory)
        raise NotBegun(error.errno, error.strerror, error.filename) from error
    _put(disk, directory, steps)
    disk.unlink(journal)
    disk.sync_directory(directory)


def abandon(disk: Disk, directory: Path) -> None:
    """Forget a change, so that nobody carries it out later; raises ``OSError``."""
    disk.unlink(directory / JOURNAL)
    disk.sync_directory(directory)


def is_interrupted(directory: Path) -> bool:
    """Whether ``recover`` has something to do."""
    return (directory / JOURNAL).exists()


def recover(disk: Disk, directory: Path) -> bool:
    """Finish a change that was interrupted; whether there was one. Raises ``OSError``."""
    journal = directory / JOURNAL
    try:
        checksum, _, body = journal.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return False
    complete = hashlib.sha256(body).hexdigest().encode() == checksum
    if complete:
        steps = [Step(*fields) for fields in json.loads(body)]
        for step in steps:
            _prepare(disk, directory / step.path, step)
        _put(disk, directory, steps)
    disk.unlink(journal)
    disk.sync_directory(directory)
    return complete


def _prepare(disk: Disk, path: Path, step: Step) -> None:
    if step.text is not None:
        disk.write(_temporary(path), step.text.encode())
    elif step.target is not None:
        disk.link(_temporary(path), step.target)


def _put(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    parents: dict[Path, None] = {}
    for step in steps:
        path = directory / step.path
        parents[path.parent] = None
        if step.text is None and step.target is None:
            disk.unlink(path)
        else:
            disk.rename(_temporary(path), path)
    for parent in parents:
        disk.sync_directory(parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY}")
