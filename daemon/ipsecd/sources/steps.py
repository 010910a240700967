"""Owns changes to several files that happen as one, by a journal that is written first.

A change is a list of steps, each of which can be repeated without harm. All that needs space is
written first, under names that nobody reads; then the journal, which holds all steps with a
checksum. Once the journal is on disk the change will happen: after a crash it is carried out again
from the start. A journal that cannot be used is set aside and reported.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ipsecd.sources.checked import seal, unseal
from ipsecd.sources.files import Disk, keep_or_copy, replace_file, temporary_of
from ipsecd.sources.links import place_to_write
from ipsecd.sources.strict_json import decode, items, members, text

JOURNAL = ".journal"
SET_ASIDE = "journal.broken"
UNCONFIRMED = "unconfirmed"
"""What the name of a file says that is kept beside one which got back what it held."""
BROKEN = "broken"
"""What the names of files that are kept, because they cannot be used, say of them."""
KIND, VERSION = "change", 1
MAX_BYTES = 256 << 20
_NAME = re.compile(r"[^./\0][^/\0]{0,254}")
_KEYS = ("path", "text", "target", "kept", "moved")


@dataclass(frozen=True, slots=True)
class Step:
    """One file's new state: its text, the target of a link, or its absence.

    ``path`` is relative to the directory of the journal; if a link is there, the text is written to
    its target. A file keeps its owner and mode. With ``kept``, the file that is there gets this
    second name in its directory, and stays under it. ``moved`` undoes that: the file of this name
    becomes ``path`` again.
    """

    path: str
    text: str | None = None
    target: str | None = None
    kept: str | None = None
    moved: str | None = None


class NotBegun(OSError):
    """The disk refused before anything had changed."""


class UnusableJournal(Exception):
    """There is a journal that cannot be carried out, for the reason in the error."""


def carry_out(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    """Carry out `steps` as one change, which is on disk when this returns.

    Raises ``NotBegun`` if nothing has changed. After any other ``OSError`` some of the steps may
    have happened: carry out the steps that undo them.
    """
    content = journal_of(steps)
    if len(content) > MAX_BYTES:
        raise NotBegun(errno.EFBIG, "the change is too large", str(directory / JOURNAL))
    try:
        for step in steps:
            _prepare(disk, directory / step.path, step)
        replace_file(disk, directory / JOURNAL, content)
    except OSError as error:
        abandon(disk, directory)
        _discard(disk, directory, steps)
        raise NotBegun(error.errno, error.strerror, error.filename) from error
    _put(disk, directory, steps)
    disk.unlink(directory / JOURNAL)
    disk.sync_directory(directory)


def journal_of(steps: Sequence[Step]) -> bytes:
    """The journal of a change, as it is on disk."""
    return seal(
        KIND, VERSION, json.dumps([asdict(step) for step in steps], ensure_ascii=False).encode()
    )


def abandon(disk: Disk, directory: Path) -> None:
    """Forget a change, so that nobody carries it out later; raises ``OSError``."""
    # A file system that is read-only refuses to delete even what is not there.
    if os.path.lexists(directory / JOURNAL):
        disk.unlink(directory / JOURNAL)
        disk.sync_directory(directory)


def interrupted(disk: Disk, directory: Path, name: str = JOURNAL) -> tuple[Step, ...] | None:
    """The steps of a change that was interrupted, None if there is none.

    Raises ``UnusableJournal``.
    """
    journal = directory / name
    try:
        return _steps(unseal(KIND, VERSION, disk.read(journal, MAX_BYTES)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableJournal(error.strerror) from error
    except ValueError as error:
        raise UnusableJournal(str(error)) from error


def recover(disk: Disk, directory: Path) -> None:
    """Finish a change that was interrupted, if there is one.

    A journal that cannot be used is set aside, if the disk permits it. Raises ``OSError``.
    """
    try:
        steps = interrupted(disk, directory)
    except UnusableJournal:
        with suppress(OSError):
            disk.rename(directory / JOURNAL, directory / SET_ASIDE)
            disk.sync_directory(directory)
        return
    if steps is None:
        return
    for step in steps:
        _prepare(disk, directory / step.path, step)
    _put(disk, directory, steps)
    disk.unlink(directory / JOURNAL)
    disk.sync_directory(directory)


def unusable(disk: Disk, directory: Path) -> dict[str, str]:
    """The journals that cannot be used, with the reason of each."""
    reasons = {}
    for name in (JOURNAL, SET_ASIDE):
        try:
            if interrupted(disk, directory, name) is not None and name == SET_ASIDE:
                reasons[name] = "it was set aside by another version of ipsecd"
        except UnusableJournal as error:
            reasons[name] = str(error)
    return reasons


def file_behind_links(path: Path) -> Path:
    """The file that the links at `path` lead to; `path` itself if there is no such file."""
    real = os.path.realpath(path)
    # These two raise for no link, not even for a loop or where a directory cannot be read.
    leads_to_file = os.path.islink(path) and os.path.exists(real)  # noqa: PTH110, PTH114
    return Path(real) if leads_to_file else path


def free_name(file: Path, why: str = BROKEN) -> str:
    """A name that is free in the directory of `file`, under which it can be kept."""
    number = 1
    while os.path.lexists(file.with_name(f"{file.name}.{why}-{number}")):
        number += 1
    return f"{file.name}.{why}-{number}"


def name_beside(file: Path, why: str) -> str:
    """The name under which `file` is kept in its directory since that was tried, or a free one."""
    present = os.lstat(file)
    for name in file.parent.glob(f"{glob.escape(file.name)}.{why}-*"):
        if os.path.samestat(os.lstat(name), present):
            return name.name
    return free_name(file, why)


def _prepare(disk: Disk, path: Path, step: Step) -> None:
    place = file_behind_links(path) if step.text is not None else path
    if place != path:
        place_to_write(path)
    _keep(disk, place, step)
    if step.text is not None:
        like = place if place.is_file() and not place.is_symlink() else None
        disk.write(temporary_of(place), step.text.encode(), like)
    elif step.target is not None:
        disk.link(temporary_of(place), step.target)


def _keep(disk: Disk, path: Path, step: Step) -> None:
    if step.kept is None:
        return
    name = path.with_name(step.kept)
    if not os.path.lexists(name):
        keep_or_copy(disk, path, name, MAX_BYTES)
    disk.sync_directory(path.parent)


def _discard(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    """Delete what was prepared for a change that does not happen, if the disk permits it."""
    for step in steps:
        path = directory / step.path
        real = file_behind_links(path) if step.text is not None else path
        with suppress(OSError):
            disk.unlink(temporary_of(real))
        if step.kept is not None:
            with suppress(OSError):
                disk.unlink(real.with_name(step.kept))


def _put(disk: Disk, directory: Path, steps: Sequence[Step]) -> None:
    parents: dict[Path, None] = {}
    for step in steps:
        path = directory / step.path
        if step.text is not None:
            path = file_behind_links(path)
        if step.moved is not None:
            path = _place_of(path, step.moved)
            _move_back(disk, path, path.with_name(step.moved))
        elif step.text is None and step.target is None:
            disk.unlink(path)
        else:
            disk.rename(temporary_of(path), path)
        parents[path.parent] = None
    for parent in parents:
        disk.sync_directory(parent)


def _place_of(path: Path, name: str) -> Path:
    """`path`, or the file it leads to if there is a file called `name` in that one's directory."""
    real = file_behind_links(path)
    return real if os.path.lexists(real.with_name(name)) else path


def _move_back(disk: Disk, path: Path, name: Path) -> None:
    if not os.path.lexists(name):
        return
    # Renaming one of two names of a file to the other does nothing (rename(2)).
    if os.path.lexists(path) and os.path.samestat(os.lstat(path), os.lstat(name)):
        disk.unlink(name)
    else:
        disk.rename(name, path)


def _steps(content: bytes) -> tuple[Step, ...]:
    return tuple(map(_step, items(decode(content), "the change")))


def _step(json_step: object) -> Step:
    # In files without a version a step is a list of three.
    if isinstance(json_step, list):
        values = [*items(json_step, "a step", 3), None, None]
        json_step = dict(zip(_KEYS, values, strict=True))
    json_members = members(json_step, "a step", _KEYS)
    path = text(json_members["path"], "a path")
    fields = {
        key: None if json_members[key] is None else text(json_members[key], f"the {key}")
        for key in _KEYS[1:]
    }
    folder, _, name = path.rpartition("/")
    if not _NAME.fullmatch(name) or folder not in {"", "policies"}:
        raise ValueError(f"{path!r} is not a path of the store")
    for key in ("kept", "moved"):
        word = fields[key]
        if word is not None and not _NAME.fullmatch(word):
            raise ValueError(f"{word!r} is not a name beside {path!r}")
    if sum(fields[key] is not None for key in ("text", "target", "moved")) > 1:
        raise ValueError(f"the step for {path!r} says two things")
    if fields["target"] == "" or "\0" in (fields["target"] or ""):
        raise ValueError(f"the link {path!r} leads nowhere")
    for value in (path, *fields.values()):
        if value is not None and not _is_text(value):
            raise ValueError(f"the step for {path!r} holds a character that no text has")
    return Step(path, **fields)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
