"""Owns the journal of the entries that were added to one list by command, with their ends.

The first line is a header. Each further line is a checksum and one change:

* ``+ END ENTRY…``: these entries are in the list until END, seconds since the epoch; ``-``: for
  ever. They replace the same entries with another end.
* ``- ENTRY…``: these are so no more.
* ``= DIGEST``: if the file of the list has these bytes, all that stands above is void;
  ``~ DIGEST ENTRY…``: if it has, these entries are so no more. So a change to both is one change:
  it has happened once the file has its new content.
* ``x DIGEST``: the list is deleted, with its file if that has these bytes; ``-``: there was none.

A line that was not written to its end is a change that was not acknowledged, and is left out, as is
a line that is damaged; others are read. When most lines are out of date, the file is written anew.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.language.list_entries import entries_in, format_entry
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packing import Packing
from ipsecd.model.persistent import PersistentMap
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk, replace_file

ENTRIES = ".entries"
"""The end of the names of these files."""
VERSION = 1
SPARE_LINES = 1000
"""How many lines may be out of date, besides as many as there are entries."""
PER_LINE = 200
"""How many entries stand in a line when the file is written anew."""
_HEADER = re.compile(rb"ipsecd list-entries ([0-9]{1,9})")
_DIGEST = re.compile(r"[0-9a-f]{64}|-")
_HEADER_LINE = f"ipsecd list-entries {VERSION}\n".encode()
_NEVER = "-"

Entries = PersistentMap[bytes, float]
"""When each entry ends, in seconds since the epoch; its key is ``key_of`` it."""


def key_of(form: Form, packed: bytes) -> bytes:
    """An entry as it is named here: IP version, prefix length, address."""
    return bytes((form.family, form.length)) + packed


def keys_of(addresses: AddressList) -> Iterator[bytes]:
    """All entries of a list."""
    for form, packed in addresses.entries.items():
        for at in range(0, len(packed), form.width):
            yield key_of(form, packed[at : at + form.width])


def list_of(keys: Iterable[bytes]) -> AddressList:
    """The list of these entries."""
    by_form: dict[bytes, list[bytes]] = {}
    for key in keys:
        by_form.setdefault(key[:2], []).append(key[2:])
    packing = Packing()
    for form, entries in by_form.items():
        packing.put(Form(Family(form[0]), form[1]), b"".join(entries))
    return packing.packed()


def text_of(key: bytes) -> str:
    """The text of an entry."""
    return format_entry(Form(Family(key[0]), key[1]), key[2:])


@dataclass(frozen=True, slots=True)
class Found:
    """What a journal held. ``deleted`` is the digest of its last line if that is ``x``, else None.

    ``problems`` say in words which lines could not be read.
    """

    entries: Entries
    deleted: str | None = None
    problems: tuple[str, ...] = ()


class Journal:
    """The journal of one list. It must be read before it is written."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.unusable = ""
        """Why the file is not ours to write, in words; empty if it is."""
        self._disk = disk
        self._lines = 0
        self._is_complete = False
        """Whether the file is there, and a line can be appended to it."""

    def read(self, digest: str) -> Found:
        """What is in the file, where the file of the list has bytes with this digest, or ``-``.

        Raises ``StoreFailed`` if it cannot be used; then it is left as it is.
        """
        self._is_complete, self.unusable = False, ""
        try:
            content = self._disk.read(self.path, MAX_OWN_FILE_BYTES)
        except FileNotFoundError:
            return Found(PersistentMap())
        except OSError as error:
            raise self._refuse(error.strerror or str(error)) from error
        lines = content.split(b"\n")
        torn = lines.pop()
        header = _HEADER.fullmatch(lines[0]) if lines else None
        if header is None:
            raise self._refuse("it does not begin with a header that ipsecd writes")
        if int(header[1]) != VERSION:
            raise self._refuse(
                f"another version of ipsecd wrote it: its form is {int(header[1])}, and this "
                f"version reads {VERSION}"
            )
        found = _Reading(digest)
        for number, line in enumerate(lines[1:], 2):
            found.take(number, line)
        if torn:
            found.problems.append(f"line {len(lines) + 1}: it has no end")
        self._lines = len(lines) - 1
        self._is_complete = not found.problems and not found.is_conditional
        return Found(found.entries, found.deleted, tuple(found.problems))

    def put(self, keys: Iterable[bytes], end: float, before: Entries, after: Entries) -> None:
        """Keep that entries are in the list until `end`; durable when it returns.

        `before` and `after` are all entries before and after. Raises ``StoreFailed``; then `before`
        is on disk.
        """
        self._append(f"+ {_end_text(end)} {_texts(keys)}", before, after)

    def drop(self, keys: Iterable[bytes], before: Entries, after: Entries) -> None:
        """Keep that entries are so no more."""
        self._append(f"- {_texts(keys)}", before, after)

    def void_with(self, digest: str, before: Entries) -> None:
        """Keep that all is void once the file of the list has bytes with this digest."""
        self._append(f"= {digest}", before, None)

    def drop_with(self, digest: str, keys: Iterable[bytes], before: Entries) -> None:
        """Keep that these are so no more once the file of the list has bytes with this digest."""
        self._append(f"~ {digest} {_texts(keys)}", before, None)

    def delete_with(self, digest: str, before: Entries) -> None:
        """Keep that the list is deleted, and its file if it has bytes with this digest."""
        self._append(f"x {digest}", before, None)

    def rewrite(self, entries: Entries) -> None:
        """Write the file anew, with these entries alone; raises ``StoreFailed``."""
        self._guarded(lambda: self._replace(entries))

    def unlink(self) -> None:
        """Delete the file; raises ``StoreFailed``."""
        self._is_complete = False
        self._guarded(self._unlink)

    def _append(self, change: str, before: Entries, after: Entries | None) -> None:
        """Append a change. Where the file is written anew it is with `after`, if that is known."""
        is_crowded = self._lines >= 2 * len(before) + SPARE_LINES
        if after is not None and (not self._is_complete or is_crowded):
            self._undone(lambda: self._replace(after), before)
            return

        def append() -> None:
            if not self._is_complete:
                self._replace(before)
            self._disk.append_durably(self.path, _line(change))
            self._lines += 1

        self._undone(append, before)

    def _undone(self, write: Callable[[], None], before: Entries) -> None:
        """Write; if that fails, put `before` back and raise ``StoreFailed``."""
        try:
            self._guarded(write)
        except StoreFailed as failure:
            # A part of a line may be there, or all of it without being known to be on disk.
            self._is_complete = False
            try:
                self._guarded(lambda: self._replace(before))
            except StoreFailed as second:
                failure.hint += f"; putting the old state back failed too: {second.message}"
            raise

    def _replace(self, entries: Entries) -> None:
        self._is_complete = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        by_end: dict[float, list[bytes]] = {}
        for key in sorted(entries):
            by_end.setdefault(entries[key], []).append(key)
        lines = [
            _line(f"+ {_end_text(end)} {_texts(keys[at : at + PER_LINE])}")
            for end, keys in sorted(by_end.items())
            for at in range(0, len(keys), PER_LINE)
        ]
        replace_file(self._disk, self.path, b"".join((_HEADER_LINE, *lines)))
        self._lines, self._is_complete = len(lines), True

    def _unlink(self) -> None:
        self._disk.unlink(self.path)
        self._disk.sync_directory(self.path.parent)

    def _guarded(self, write: Callable[[], None]) -> None:
        if self.unusable:
            raise StoreFailed(
                f"{str(self.path)!r} cannot be used, and is left as it is: {self.unusable}",
                "mend it or move it away, then run: ipsecctl reload",
            )
        try:
            write()
        except OSError as error:
            raise StoreFailed(
                f"{str(self.path)!r} cannot be written: {error.strerror}",
                "look at the free space, the mount options and the owner of the directory",
            ) from error

    def _refuse(self, reason: str) -> StoreFailed:
        self.unusable = reason
        return StoreFailed(
            f"{str(self.path)!r} cannot be used: {reason}",
            "mend it or move it away, then run: ipsecctl reload",
        )


class _Reading:
    """Takes line after line."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self.entries: Entries = PersistentMap()
        self.deleted: str | None = None
        self.problems: list[str] = []
        self.is_conditional = False

    def take(self, number: int, line: bytes) -> None:
        try:
            self._apply(_unchecked(line))
        except ValueError as error:
            self.problems.append(f"line {number}: {error}")

    def _apply(self, change: str) -> None:
        kind, _, rest = change.partition(" ")
        self.deleted = None
        if kind == "+":
            end_text, _, entries = rest.partition(" ")
            end = _end(end_text)
            for key in _keys(entries):
                self.entries = self.entries.with_item(key, end)
        elif kind == "-":
            self._drop(_keys(rest))
        elif kind in {"=", "~", "x"}:
            digest, _, entries = rest.partition(" ")
            if not _DIGEST.fullmatch(digest):
                raise ValueError("it has no digest")
            keys = _keys(entries) if kind == "~" else []
            self.is_conditional = True
            if kind == "x":
                self.deleted = digest
            elif digest == self._digest:
                if kind == "=":
                    self.entries = PersistentMap()
                self._drop(keys)
        else:
            raise ValueError("it is no change that this version knows")

    def _drop(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.entries = self.entries.without(key)


def _line(change: str) -> bytes:
    content = change.encode()
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _unchecked(line: bytes) -> str:
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("it is damaged: its checksum is another's")
    return content.decode("ascii")


def _texts(keys: Iterable[bytes]) -> str:
    return " ".join(map(text_of, keys))


def _keys(texts: str) -> list[bytes]:
    keys = [key_of(*entry) for text in texts.split() for entry in entries_in(text)]
    if not keys:
        raise ValueError("it names no entry")
    return keys


def _end_text(end: float) -> str:
    return _NEVER if end == inf else f"{end:.3f}"


def _end(text: str) -> float:
    end = inf if text == _NEVER else float(text)
    if text != _NEVER and not isfinite(end):
        raise ValueError("its end is no time")
    return end
