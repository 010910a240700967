"""Owns a ring of files of records, of which the oldest go; must not know what records hold.

A file is a header and frames: length, CRC-32, and JSON texts, a line each, compressed. The frames
of a file are one stream of zlib, of which each is a piece that ends on a whole byte: records are
alike, and one alone would take four times as much.
Invariants:

1. What a crash has cut off at the end of a file, at whatever byte, is as if it had never been
   written; all before it can be read.
2. A file that an earlier process wrote is never added to, nor one in which writing failed: what is
   behind a torn frame could not be found again.

Errors of the disk are raised, as ``OSError``: whoever writes decides what becomes of the record.
Writing is done in one thread; what is there may be read in any.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipsecd.sources.files import Disk
from ipsecd.sources.strict_json import decode, members

HEADER = b"ipsecd recorder 1\n"
MAX_FRAME_BYTES = 64 << 20
"""How long a frame may be, before it is compressed and after it."""
MAX_FILE_BYTES = 1 << 30
_FRAME = struct.Struct(">II")
_NAME = re.compile(r"[0-9]{12}")

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, the oldest record first; ``complete`` if it does not end in a torn one."""

    records: tuple[Json, ...]
    complete: bool


class Ring:
    """The files in one directory, by their numbers."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._sizes: dict[int, int] = {}
        self._current: int | None = None
        self._packer = zlib.compressobj()

    def load(self) -> None:
        """Find the files that there are; no file is written to that is there already."""
        self._current, self._sizes = None, {}
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                if _NAME.fullmatch(path.name):
                    self._sizes[int(path.name)] = path.stat().st_size

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all files, the oldest first; for any thread."""
        return tuple(sorted(self._sizes))

    @property
    def size(self) -> int:
        """How long all files are together, in bytes."""
        return sum(self._sizes.values())

    @property
    def current_size(self) -> int:
        """How long the file is that is written, in bytes; 0 if there is none."""
        return 0 if self._current is None else self._sizes[self._current]

    @property
    def current(self) -> int | None:
        """The number of the file that is written; None if there is none to add to."""
        return self._current

    def begin(self, record: Json) -> int:
        """Begin another file with a record; its number."""
        self._current = None
        if not self._directory.is_dir():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._disk.sync_directory(self._directory.parent)
        number = max(self._sizes, default=0) + 1
        self._packer = zlib.compressobj()
        content = HEADER + _framed(self._packer, [record])
        self._disk.write(self._path(number), content)
        self._disk.sync_directory(self._directory)
        self._sizes[number] = len(content)
        self._current = number
        return number

    def add(self, records: Iterable[Json], *, durable: bool = False) -> None:
        """Add records to the file that is written; `durable`: and wait until they are on disk."""
        number = self._current
        assert number is not None
        content = _framed(self._packer, records)
        append = self._disk.append_durably if durable else self._disk.append
        try:
            append(self._path(number), content)
        except OSError:
            # Part of it may be there.
            self._current = None
            raise
        self._sizes[number] += len(content)

    def give_up(self) -> None:
        """Add no more to the file that is written."""
        self._current = None

    def drop(self, number: int) -> None:
        """Delete a file."""
        if number == self._current:
            self._current = None
        self._disk.unlink(self._path(number))
        del self._sizes[number]

    def first(self, number: int) -> Json | None:
        """The record that a file begins with; None if the file is gone, or has none."""
        return next(self._frames_of(number, at_most=1), None)

    def contents(self, number: int) -> Contents:
        """All that can be read of a file; nothing if it is gone."""
        try:
            content = self._disk.read(self._path(number), MAX_FILE_BYTES)
        except OSError:
            return Contents((), complete=False)
        records: list[Json] = []
        read = 0
        for end, texts in _frames(content):
            try:
                records += map(_record, texts)
            except ValueError:
                break
            read = end
        return Contents(tuple(records), read == len(content))

    def raw(self, number: int) -> Iterator[bytes]:
        """The texts of a file's records as they are; none if it is gone."""
        with suppress(OSError):
            for _, texts in _frames(self._disk.read(self._path(number), MAX_FILE_BYTES)):
                yield from texts

    def _frames_of(self, number: int, at_most: int) -> Iterator[Json]:
        try:
            content = _beginning(self._path(number))
        except OSError:
            return
        for _, texts in _frames(content):
            for text in texts[:at_most]:
                with suppress(ValueError):
                    yield _record(text)
            return

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012d}"


def is_over(begins: Sequence[int], now: int, oldest: int) -> bool:
    """Whether the first of files that began at `begins` had ended before `oldest`.

    It goes on until another begins. A clock that was wrong for a while, as after a boot until the
    time is known, does not end it: files that seem to have begun before it say nothing of that.
    """
    first, *later = begins
    if not later:
        return False
    if first > now:
        return later[0] < oldest
    return min((begin for begin in later if begin >= first), default=now) < oldest


def _framed(packer: zlib._Compress, records: Iterable[Json]) -> bytes:
    """Records as the next frame of a file."""
    texts = "\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    packed = packer.compress(texts.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)
    return _FRAME.pack(len(packed), zlib.crc32(packed)) + packed


def _frames(content: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Where each frame ends, and its texts, up to the first that is torn or damaged."""
    if not content.startswith(HEADER):
        return
    at = len(HEADER)
    unpacker = zlib.decompressobj()
    while at + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, at)
        end = at + _FRAME.size + length
        packed = content[at + _FRAME.size : end]
        if len(packed) < length or zlib.crc32(packed) != checksum:
            return
        try:
            texts = unpacker.decompress(packed, MAX_FRAME_BYTES)
        except zlib.error:
            return
        if unpacker.unconsumed_tail:
            return
        at = end
        yield at, texts.split(b"\n")


def _record(text: bytes) -> Json:
    return members(decode(text), "a record")


def _beginning(path: Path) -> bytes:
    """The header and the first frame of a file."""
    with path.open("rb") as file:
        head = file.read(len(HEADER) + _FRAME.size)
        if len(head) < len(HEADER) + _FRAME.size:
            return b""
        length, _ = _FRAME.unpack_from(head, len(HEADER))
        return head + file.read(min(length, MAX_FRAME_BYTES))
