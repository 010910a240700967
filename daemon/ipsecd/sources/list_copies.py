"""Owns copies of what lists held before a change that nobody has confirmed yet.

Must not know what the change is. A list may have millions of entries, so a copy is a second name of
a file that the daemon never writes to again, where the file system has such names: files of its own
are replaced as a whole.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.language.address_lists import MAX_BYTES
from ipsecd.model.addresses import check_list_name
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk, keep_or_copy
from ipsecd.sources.list_files import FEED, READ, TEXT, FeedFile, FileReadFile
from ipsecd.sources.list_parts import Parts
from ipsecd.sources.lists_before import FeedBefore, FileBefore, ListBefore, ListFacts, ListsBefore

NAME = "unconfirmed-lists"
"""The directory, in that of the daemon."""


class ListCopies:
    """The copies of one change; there is none, or one change has them."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._directory = state_dir / NAME
        self._disk = disk or Disk()

    def keep(self, lists: ListsBefore, parts_of: Mapping[str, Parts]) -> None:
        """Keep what the files and feeds of `lists` hold now; on disk when it returns.

        Raises ``StoreFailed``, or ``Refused`` if it is not known any more what a file held.
        """
        try:
            self._forget()
            if not any(each.file or each.feed for each in lists.values()):
                return
            if not self._directory.is_dir():
                self._directory.mkdir(parents=True, exist_ok=True)
                self._disk.sync_directory(self._directory.parent)
            for name, before in lists.items():
                self._keep_list(name, before, parts_of[name])
            self._disk.sync_directory(self._directory)
        except OSError as error:
            raise StoreFailed(
                f"what lists hold cannot be kept in {str(self._directory)!r}: {error.strerror}",
                "look at the free space, the mount options and the owner of the directory",
            ) from error

    def _keep_list(self, name: str, before: ListBefore, parts: Parts) -> None:
        if before.file and before.file.read:
            read = before.file.read
            parts.must_have_text(read.digest)
            self._keep_file(parts.own(TEXT), name + TEXT)
            if parts.is_saved(read):
                self._keep_file(parts.own(READ), name + READ)
            else:
                FileReadFile(self._directory / (name + READ), self._disk).save(read)
        if before.feed and before.feed.feed:
            feed = before.feed.feed
            if parts.is_saved_feed(feed):
                self._keep_file(parts.own(FEED), name + FEED)
            else:
                FeedFile(self._directory / (name + FEED), self._disk).save(feed)

    def _keep_file(self, path: Path, name: str) -> None:
        keep_or_copy(self._disk, path, self._directory / name, MAX_OWN_FILE_BYTES)

    def load(self, facts: Mapping[str, ListFacts]) -> dict[str, ListBefore]:
        """The lists before the change, of which there are `facts`.

        Raises ``StoreFailed`` or another ``IpsecdError`` if a copy cannot be used.
        """
        return {name: self._load_list(name, each) for name, each in facts.items()}

    def _load_list(self, name: str, facts: ListFacts) -> ListBefore:
        check_list_name(name)
        file = feed = None
        if facts.file:
            read = None
            if facts.digest is not None:
                read = FileReadFile(self._directory / (name + READ), self._disk).load()
                if read is None or read.digest != facts.digest:
                    raise self._lost(name + READ)
            file = FileBefore(read)
        if facts.feed:
            kept = None
            if facts.existed:
                kept = FeedFile(self._directory / (name + FEED), self._disk).load()
                if kept is None:
                    raise self._lost(name + FEED)
            feed = FeedBefore(kept, facts.put)
        return ListBefore(file, feed, facts.ends)

    def _lost(self, name: str) -> StoreFailed:
        return StoreFailed(
            f"{str(self._directory / name)!r} is not what was kept there",
            "what is in force stays; look at it with: ipsecctl list show",
        )

    def text(self, name: str, digest: str) -> bytes:
        """What the file of a list held, with this SHA-256; raises ``OSError``."""
        content = self._disk.read(self._directory / (name + TEXT), MAX_BYTES)
        if sha256(content).hexdigest() != digest:
            raise OSError(errno.EIO, "what was kept of its file is damaged", name)
        return content

    def forget(self) -> None:
        """Delete all copies, if the disk permits it; what is left is deleted with the next ones."""
        with suppress(OSError):
            self._forget()

    def _forget(self) -> None:
        if not self._directory.is_dir():
            return
        for path in sorted(self._directory.iterdir()):
            self._disk.unlink(path)
