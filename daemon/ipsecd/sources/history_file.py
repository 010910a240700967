"""Owns the history on disk: one journal of rows, and the documents that its rows name by SHA-256.

It must not know what a change is. Invariants:

1. A line of the journal is read as a whole or not at all, and one that cannot be read keeps no
   other from being read. After a failure the journal is written anew before anything is added.
2. A document is on disk before a row that names it. What it holds is told by its name, so a damaged
   one counts as missing.
3. A failure to write is not raised: no change waits for its history. ``failure`` says it until what
   was missed is written.

It is used in one thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from ipsecd.sources.files import Disk, replace_file
from ipsecd.sources.history_rows import Row, line_of, row_of
from ipsecd.sources.remembered import digest_of
from ipsecd.sources.steps import free_name

HISTORY, JOURNAL, DOCUMENTS = "history", "journal", "documents"
MAX_JOURNAL_BYTES = 256 << 20
MAX_DOCUMENTS_BYTES = 64 << 20
"""How much documents may take up, those of the state now not counted."""
SPARE_BYTES = 1 << 20
"""How long the journal may become, besides twice as long as it was when it was written anew."""
_HEADER = b"ipsecd history 1\n"
_DIGEST = re.compile(r"[0-9a-f]{64}")


NO_TEXTS: Mapping[str, str] = MappingProxyType({})


class HistoryFile:
    """The journal and the documents."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._directory = state_dir / HISTORY
        self._path = self._directory / JOURNAL
        self._documents = self._directory / DOCUMENTS
        self._disk = disk or Disk()
        self._bytes, self._bytes_anew = 0, 0
        self._is_complete = False
        self._sizes: dict[str, int] = {}
        self._unkept: dict[str, str] = {}
        self._failure_of_rows = self._failure_of_documents = ""

    @property
    def failure(self) -> str:
        """Why rows or documents are not on disk that should be; "" if all are."""
        return self._failure_of_rows or self._failure_of_documents

    @property
    def lacks_documents(self) -> bool:
        """Whether documents could not be written; ``keep`` tries these again."""
        return bool(self._unkept)

    # -- rows ------------------------------------------------------------------------------------

    def load(self) -> tuple[list[Row], tuple[str, ...]]:
        """The rows, the oldest first, and what is wrong with others, in words.

        A file that cannot be used is set aside under another name, where the disk permits it.
        """
        self._sizes = self._sizes_on_disk()
        try:
            content = self._disk.read(self._path, MAX_JOURNAL_BYTES)
        except FileNotFoundError:
            return [], ()
        except OSError as error:
            return [], (self._set_aside(error.strerror or str(error)),)
        if not content.startswith(_HEADER):
            return [], (self._set_aside("it does not begin with a header of this version"),)
        rows: dict[int, Row] = {}
        problems = []
        lines = content[len(_HEADER) :].split(b"\n")
        # What a crash has left of the last line was never told to anybody.
        torn = lines.pop()
        for at, line in enumerate(lines, 2):
            try:
                row = row_of(line)
            except ValueError as error:
                problems.append(f"line {at} of {str(self._path)!r} cannot be read: {error}")
            else:
                rows[row.number] = row
        self._is_complete = not torn and not problems
        self._bytes = self._bytes_anew = len(content)
        return [rows[number] for number in sorted(rows)], tuple(problems[:3])

    def _set_aside(self, reason: str) -> str:
        with suppress(OSError):
            name = self._path.with_name(free_name(self._path))
            self._disk.rename(self._path, name)
            return f"{str(self._path)!r} cannot be used, and is kept as {name.name!r}: {reason}"
        return f"{str(self._path)!r} cannot be used: {reason}"

    def add(self, rows: Sequence[Row], kept: Sequence[Row], *, durable: bool) -> bool:
        """Add `rows`; whether they are in the file.

        Where the file is written anew it holds those that are `kept`, among which `rows` are.
        """
        lines = b"".join(map(line_of, rows))
        is_long = self._bytes + len(lines) > 2 * self._bytes_anew + SPARE_BYTES
        try:
            if self._is_complete and not is_long:
                self._is_complete = False
                append = self._disk.append_durably if durable else self._disk.append
                append(self._path, lines)
                self._bytes += len(lines)
            else:
                self._write_anew(kept)
        except OSError as error:
            self._failure_of_rows = _reason(error)
            return False
        self._is_complete, self._failure_of_rows = True, ""
        return True

    def _write_anew(self, rows: Sequence[Row]) -> None:
        self._is_complete = False
        self._make(self._directory)
        content = b"".join((_HEADER, *map(line_of, rows)))
        replace_file(self._disk, self._path, content)
        self._bytes = self._bytes_anew = len(content)

    def _make(self, directory: Path) -> None:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            self._disk.sync_directory(directory.parent)

    # -- documents -------------------------------------------------------------------------------

    def keep(self, texts: Mapping[str, str] = NO_TEXTS) -> None:
        """Have documents on disk, which are given by their SHA-256, and those that are missing."""
        wanted = {**self._unkept, **texts}
        if sum(map(len, wanted.values())) > MAX_DOCUMENTS_BYTES:
            self._unkept = {}
            return
        self._unkept = {
            digest: text for digest, text in wanted.items() if digest not in self._sizes
        }
        try:
            for digest in tuple(self._unkept):
                self._make(self._documents)
                content = self._unkept[digest].encode()
                replace_file(self._disk, self._documents / digest, content)
                self._sizes[digest] = len(content)
                del self._unkept[digest]
        except OSError as error:
            self._failure_of_documents = _reason(error)
        else:
            self._failure_of_documents = ""

    def document(self, digest: str) -> str | None:
        """A document by its SHA-256, None if it is not there any more; for any thread."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            text = self._disk.read(self._documents / digest, MAX_DOCUMENTS_BYTES).decode()
        except (OSError, ValueError):
            return None
        return text if digest_of(text) == digest else None

    def size(self, digest: str) -> int:
        """How long a document is, in bytes; 0 if it is not there."""
        return self._sizes.get(digest, 0)

    def drop_all_but(self, digests: frozenset[str]) -> None:
        """Delete all other documents, where the disk permits it."""
        for digest in sorted(self._sizes.keys() - digests):
            with suppress(OSError):
                self._disk.unlink(self._documents / digest)
                del self._sizes[digest]

    def _sizes_on_disk(self) -> dict[str, int]:
        sizes = {}
        with suppress(OSError):
            for file in self._documents.iterdir():
                if _DIGEST.fullmatch(file.name):
                    sizes[file.name] = file.stat().st_size
                else:
                    # It was being written when a crash came.
                    self._disk.unlink(file)
        return sizes


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
