"""Owns changes to several files that happen as one: a journal, written first, that can be redone.

A change is a list of steps, each of which can be repeated without harm. The journal holds all of
them with a checksum. Once it is on disk the change will happen: whoever finds a complete journal
carries it out again from the start. An incomplete one is a change that never began.
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


def carry_out(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    """Carry out `steps` as one change, on disk when this returns; raises ``OSError``.

    After an error it is not known how far it came: carry out the steps that lead back.
    """
    body = json.dumps([[s.path, s.text, s.target] for s in steps], ensure_ascii=False).encode()
    journal = directory / JOURNAL
    replace_file(disk, journal, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    _redo(disk, directory, steps)
    disk.unlink(journal)
    disk.sync_directory(directory)


def recover(disk: Disk, directory: Path) -> bool:
    """Finish a change that was interrupted; whether there was one. Raises ``OSError``."""
    journal = directory / JOURNAL
    try:
        checksum, _, body = journal.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return False
    complete = hashlib.sha256(body).hexdigest().encode() == checksum
    if complete:
        _redo(disk, directory, [Step(*fields) for fields in json.loads(body)])
    disk.unlink(journal)
    disk.sync_directory(directory)
    return complete


def _redo(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    parents: dict[Path, None] = {}
    for step in steps:
        path = directory / step.path
        parents[path.parent] = None
        temporary = path.with_name(f".{path.name}{TEMPORARY}")
        if step.text is not None:
            disk.write(temporary, step.text.encode())
            disk.rename(temporary, path)
        elif step.target is not None:
            disk.link(temporary, step.target)
            disk.rename(temporary, path)
        else:
            disk.unlink(path)
    for parent in parents:
        disk.sync_directory(parent)
