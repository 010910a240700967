"""Owns the form of a file of records that come and go one by one; must not know what they hold.

The file is for the next process of this boot, not for the next boot: nothing waits for a disk. A
line ``ipsecd KIND VERSION BOOT`` says whose it is, and each line below it puts one record or drops
some: a checksum, and JSON. Invariants:

1. A record costs the same however many there are: it is appended, and what is superseded is left
   out when the whole is written anew, once there is more of it than of the rest.
2. A line that cannot be read takes nothing with it but itself.
3. No failure to write is raised: a rule is in force whether or not it can be kept. It is told in
   words until it is mended, and the file is gone meanwhile: what is old must not come back.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipsecd.sources.files import Disk, replace_file, temporary_of
from ipsecd.sources.shapes import decode, items, members, text

MAX_BYTES = 1 << 30
SPARE_LINES = 1000
"""How many lines that count no more are left in the file, besides as many as count."""
_HEADER = re.compile(rb"ipsecd ([a-z-]{1,32}) ([0-9]{1,9}) ([0-9a-f]{32})")
_HEADER_BYTES = 128

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
    """What was read: the records by their keys, and in words what could not be read."""

    records: Mapping[str, Record]
    wrong: tuple[str, ...] = ()


class RecordFile:
    """Records by key, in memory as they are in the file."""

    def __init__(self, path: Path, form: Form, disk: Disk | None = None) -> None:
        self.path = path
        self.failure = ""
        """Why the records are not in the file, in words; empty while they are."""
        self._form = form
        self._disk = disk or Disk()
        self._lines: dict[str, bytes] = {}
        self._forget_file()

    def _forget_file(self) -> None:
        self._in_file = 0
        self._is_whole = False
        self._missed = 0

    def load(self) -> Contents:
        """What the file holds: nothing if it is absent, or that of another boot.

        What is kept from now on comes on top of it.
        """
        self._lines = {}
        self._forget_file()
        try:
            whole = self._disk.read(self.path, MAX_BYTES)
        except FileNotFoundError:
            return Contents({})
        except OSError as error:
            return Contents({}, (error.strerror or str(error),))
        end = whole.find(b"\n", 0, _HEADER_BYTES)
        header = _HEADER.fullmatch(whole[: max(end, 0)])
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
        return self._read_lines(whole[end + 1 :])

    def put(self, key: str, content: Record) -> None:
        """Keep a record in the place of the one under `key`, if any."""
        line = _line({"put": key, "record": content})
        self._lines[key] = line
        self._append(line)

    def drop(self, keys: Iterable[str]) -> None:
        """Forget records; one that is not there is no error."""
        gone = [key for key in keys if self._lines.pop(key, None)]
        if gone:
            self._append(_line({"drop": gone}))

    def leave_out(self, keys: Iterable[str]) -> None:
        """Forget records that were read, without writing: they are gone with the next change."""
        for key in keys:
            del self._lines[key]
            self._is_whole = False

    def clear(self) -> None:
        """Forget all records, and have no file."""
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
        wrong = []
        lines = content.split(b"\n")
        torn = lines.pop()
        for number, line in enumerate(lines, 2):
            try:
                _take(line, records, self._lines)
            except ValueError as error:
                wrong.append(f"line {number}: {error}")
        if torn:
            wrong.append(f"line {len(lines) + 2}: it has no end")
        self._in_file = len(lines)
        self._is_whole = not wrong
        return Contents(records, tuple(wrong))

    def _append(self, line: bytes) -> None:
        if self.failure:
            # Trying to write all of it at every change would cost more the more there is.
            self._missed += 1
            if self._missed > len(self._lines):
                self._rewrite()
            return
        if not self._is_whole or self._in_file >= 2 * len(self._lines) + SPARE_LINES:
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
            self._in_file += 1

    def _rewrite(self) -> None:
        self._forget_file()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = b"".join((self._form.header, *self._lines.values()))
            replace_file(self._disk, self.path, content)
        except OSError as error:
            self._fail(error)
        else:
            self._in_file, self._is_whole, self.failure = len(self._lines), True, ""

    def _fail(self, error: OSError) -> None:
        self._forget_file()
        self.failure = error.strerror or str(error)
        for path in (self.path, temporary_of(self.path)):
            with suppress(OSError):
                self._disk.unlink(path)


def _line(node: Record) -> bytes:
    content = json.dumps(node, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(content), content)


def _take(line: bytes, records: dict[str, Record], lines: dict[str, bytes]) -> None:
    """Carry out one line; raises ``ValueError`` with the reason if it cannot be read."""
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("it is damaged: its checksum is another's")
    node = members(decode(content), "the line")
    if "put" in node:
        members(node, "the line", ("put", "record"))
        key = text(node["put"], "the key")
        records[key] = members(node["record"], "the record")
        lines[key] = line + b"\n"
        return
    for gone in items(members(node, "the line", ("drop",))["drop"], "what is dropped"):
        key = text(gone, "a key")
        records.pop(key, None)
        lines.pop(key, None)
