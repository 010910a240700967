"""Owns the form of a file of records that are added and dropped one by one.

It must not know what they hold. The file is for the next process of this boot, not for the next
boot: nothing waits for a disk. The first line, ``ipsecd KIND VERSION BOOT``, says whose file it is.
Each further line adds one record, drops some, or does several of both at once: it is a checksum and
JSON. Invariants:

1. Adding a record costs the same however many there are: it is appended. Once more lines are out
   of date than count, the file is written anew without them.
2. A line that cannot be read does not keep others from being read. What was one change is one line,
   so that it is read as a whole or not at all.
3. A failure to write is not raised: a rule is in force whether or not it can be saved. ``failure``
   says it until it is mended. Meanwhile there is no file, so that old records cannot come back.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk, replace_file
from ipsecd.sources.strict_json import decode, items, members, text

SPARE_LINES = 1000
"""How many lines may be out of date, besides as many as there are records."""
_HEADER = re.compile(rb"ipsecd ([a-z-]{1,32}) ([0-9]{1,9}) ([0-9a-f]{32})")
_HEADER_BYTES = 128

_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""Made once: ``json.dumps`` makes another for each rule."""

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Form:
    """What a file holds: its kind and version, and the boot whose file it is (128 bits in hex)."""

    kind: str
    version: int
    boot: str

    @property
    def header(self) -> bytes:
        """The first line."""
        return f"ipsecd {self.kind} {self.version} {self.boot}\n".encode()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was read: the records by their keys, and the reasons why others could not be read."""

    records: Mapping[str, Record]
    problems: tuple[str, ...] = ()


class RecordFile:
    """Records by key, in memory and in the file."""

    def __init__(self, path: Path, form: Form, disk: Disk | None = None) -> None:
        self.path = path
        self.failure = ""
        """Why the records are not in the file, in words; empty while they are."""
        self._form = form
        self._disk = disk or Disk()
        self._lines: dict[str, bytes] = {}
        self._forget_file()

    def _forget_file(self) -> None:
        self._lines_in_file = 0
        self._is_complete = False
        self._changes_missed = 0

    def load(self) -> Contents:
        """Read the file. The outcome has no records if it is absent or of another boot.

        Records that are put from now on are added to these.
        """
        self._lines = {}
        self._forget_file()
        try:
            content = self._disk.read(self.path, MAX_OWN_FILE_BYTES)
        except FileNotFoundError:
            return Contents({})
        except OSError as error:
            return Contents({}, (error.strerror or str(error),))
        end = content.find(b"\n", 0, _HEADER_BYTES)
        header = _HEADER.fullmatch(content[: max(end, 0)])
        if not header or header[1].decode() != self._form.kind:
            return Contents({}, ("it does not begin with a header that ipsecd writes",))
        if int(header[2]) != self._form.version:
            reason = (
                f"another version of ipsecd wrote it: its form is {int(header[2])}, and this "
                f"version reads {self._form.version}"
            )
            return Contents({}, (reason,))
        if header[3].decode() != self._form.boot:
            return Contents({})
        return self._read_lines(content[end + 1 :])

    def put(self, key: str, content: Record) -> None:
        """Add a record. It replaces the record of this key, if there is one."""
        self.change({key: content})

    def drop(self, keys: Iterable[str]) -> None:
        """Drop records; it is no error if there is none of a key."""
        self.change({}, keys)

    def change(self, put: Mapping[str, Record], drop: Iterable[str] = ()) -> None:
        """Drop records and add others, which replace those of their keys, as one change."""
        dropped = [key for key in drop if self._lines.pop(key, None)]
        changes = [_json({"drop": dropped})] if dropped else []
        for key, content in put.items():
            change = _json({"put": key, "record": content})
            self._lines[key] = _line(change)
            changes.append(change)
        if not changes:
            return
        together = changes[0] if len(changes) == 1 else b'{"all":[%b]}' % b",".join(changes)
        self._append(_line(together), len(changes))

    def leave_out(self, keys: Iterable[str]) -> None:
        """Drop records that were read. The next change deletes them from the file."""
        for key in keys:
            del self._lines[key]
            self._is_complete = False

    def clear(self) -> None:
        """Drop all records and delete the file."""
        self._lines = {}
        self._forget_file()
        self.failure = ""
        try:
            self._disk.unlink(self.path)
        except OSError as error:
            self._fail(error)

    def mend(self) -> None:
        """Write the file anew if that failed when it was last tried."""
        if self.failure:
            self._rewrite()

    def _read_lines(self, content: bytes) -> Contents:
        records: dict[str, Record] = {}
        problems = []
        lines = content.split(b"\n")
        torn = lines.pop()
        for number, line in enumerate(lines, 2):
            try:
                _apply_line(line, records, self._lines)
            except ValueError as error:
                problems.append(f"line {number}: {error}")
        if torn:
            problems.append(f"line {len(lines) + 2}: it has no end")
        self._lines_in_file = len(lines)
        self._is_complete = not problems
        return Contents(records, tuple(problems))

    def _append(self, line: bytes, changes: int) -> None:
        if self.failure:
            # Trying to write the whole file at every change costs more the more records there are.
            self._changes_missed += 1
            if self._changes_missed > len(self._lines):
                self._rewrite()
            return
        if not self._is_complete or self._lines_in_file >= 2 * len(self._lines) + SPARE_LINES:
            self._rewrite()
            return
        try:
            self._disk.append(self.path, line)
        except FileNotFoundError:
            # Somebody has cleared the directory.
            self._rewrite()
        except OSError as error:
            self._fail(error)
        else:
            self._lines_in_file += changes

    def _rewrite(self) -> None:
        self._forget_file()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = b"".join((self._form.header, *self._lines.values()))
            replace_file(self._disk, self.path, content, durable=False)
        except OSError as error:
            self._fail(error)
        else:
            self._lines_in_file, self._is_complete, self.failure = len(self._lines), True, ""

    def _fail(self, error: OSError) -> None:
        self._forget_file()
        self.failure = error.strerror or str(error)
        with suppress(OSError):
            self._disk.unlink(self.path)


def _json(change: Record) -> bytes:
    return _ENCODER.encode(change).encode()


def _line(change: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(change), change)


def _apply_line(line: bytes, records: dict[str, Record], lines: dict[str, bytes]) -> None:
    """Apply one line to `records` and `lines`; raises ``ValueError`` if it cannot be read."""
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("it is damaged: its checksum is another's")
    change = members(decode(content), "the line")
    if "all" not in change:
        _apply_change(change, records, lines)
        return
    # All of it is read before any of it counts.
    parts = items(members(change, "the line", ("all",))["all"], "the changes")
    trial: dict[str, Record] = {}
    for part in parts:
        _apply_change(members(part, "a change"), trial, {})
    for part in parts:
        _apply_change(members(part, "a change"), records, lines)


def _apply_change(
    change: Mapping[str, object], records: dict[str, Record], lines: dict[str, bytes]
) -> None:
    """Apply one change to `records` and `lines`; raises ``ValueError`` if it cannot be read."""
    if "put" in change:
        members(change, "the line", ("put", "record"))
        key = text(change["put"], "the key")
        records[key] = members(change["record"], "the record")
        lines[key] = _line(_json(change))
        return
    for dropped in items(members(change, "the line", ("drop",))["drop"], "what is dropped"):
        key = text(dropped, "a key")
        records.pop(key, None)
        lines.pop(key, None)
