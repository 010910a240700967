"""Owns contents that records name by their SHA-256, compressed; must not know what they are.

What a content is is told by its name, so a damaged one counts as missing. Each is on disk before a
record that names it. Errors of the disk are raised as ``OSError``. Writing is done in one thread.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Set as AbstractSet
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ipsecd.sources.files import Disk, replace_file

MAX_BYTES = 1 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The contents in one directory."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._sizes: dict[str, int] = {}

    def load(self) -> None:
        """Find the contents that there are."""
        self._sizes = {}
        with suppress(OSError):
            for path in self._directory.iterdir():
                if _DIGEST.fullmatch(path.name):
                    self._sizes[path.name] = path.stat().st_size
                else:
                    # It was being written when a crash came.
                    self._disk.unlink(path)

    @property
    def size(self) -> int:
        """How long all of them are together, compressed, in bytes."""
        return sum(self._sizes.values())

    def put(self, content: bytes) -> str:
        """Have a content on disk; its digest."""
        digest = sha256(content).hexdigest()
        if digest not in self._sizes:
            if not self._directory.is_dir():
                self._directory.mkdir(parents=True, exist_ok=True)
                self._disk.sync_directory(self._directory.parent)
            packed = zlib.compress(content)
            replace_file(self._disk, self._directory / digest, packed)
            self._sizes[digest] = len(packed)
        return digest

    def length(self, digest: str) -> int:
        """How long a content is, compressed, in bytes."""
        return self._sizes[digest]

    def get(self, digest: str) -> bytes | None:
        """A content; None if it is not there, or damaged. For any thread."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            packed = self._disk.read(self._directory / digest, MAX_BYTES)
            content = zlib.decompressobj().decompress(packed, MAX_BYTES)
        except (OSError, zlib.error):
            return None
        return content if sha256(content).hexdigest() == digest else None

    def drop_all_but(self, digests: AbstractSet[str]) -> None:
        """Delete all others."""
        for digest in sorted(self._sizes.keys() - digests):
            self._disk.unlink(self._directory / digest)
            del self._sizes[digest]
