"""Owns the parts of one list on disk: its file, its feed, its journal, and what the file held last.

Must not know what a change of a list is, nor other lists.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from ipsecd.errors import IpsecdError, Refused, StoreFailed
from ipsecd.language.address_lists import MAX_BYTES, ReadList, read_list
from ipsecd.language.list_formats import PLAIN
from ipsecd.model.lists import AddressList
from ipsecd.model.packing import changed as changed_list
from ipsecd.model.packing import united, without
from ipsecd.model.persistent import PersistentMap
from ipsecd.quoting import count
from ipsecd.sources.files import Disk, keep_or_copy, replace_file
from ipsecd.sources.list_files import FEED, READ, TEXT, Feed, FeedFile, FileRead, FileReadFile
from ipsecd.sources.list_journal import ENTRIES, Entries, Journal, list_of
from ipsecd.sources.steps import UNCONFIRMED, file_behind_links, name_beside

NO_FILE = "-"
"""What stands for the digest of a file that is not there."""


@dataclass(frozen=True, slots=True)
class StoredList:
    """One list: its parts, and the entries of all of them together.

    ``added`` has the entries that were added by command and have not ended, each with its end.
    ``problems`` say what is wrong with the parts, in words.
    """

    name: str
    file: FileRead | None
    feed: Feed | None
    added: Entries
    problems: tuple[str, ...] = ()
    addresses: AddressList = field(default_factory=AddressList)

    @property
    def exists(self) -> bool:
        """Whether there is anything that makes it a list."""
        return bool(self.file or self.feed or self.added)

    def filled(self, old: StoredList | None = None, changed: Sequence[bytes] = ()) -> StoredList:
        """This list with the entries of its parts.

        `old` is what it is made from, and `changed` the only entries that were added or removed by
        command: if the other parts are the same, the cost goes by these.
        """
        parts = [part.addresses for part in (self.file, self.feed) if part]
        if old and self.file is old.file and self.feed is old.feed:
            come = [key for key in changed if key in self.added]
            gone = list_of(key for key in changed if key not in self.added)
            for part in parts:
                gone = without(gone, part)
            return replace(self, addresses=changed_list(old.addresses, gone, list_of(come)))
        return replace(self, addresses=united((*parts, list_of(self.added))))


class Parts:
    """The files of one list."""

    def __init__(self, name: str, file: Path, own: Path, disk: Disk) -> None:
        """`file` is that of people, `own` the directory in which the daemon keeps the others."""
        self._name = name
        self._file = file
        self._disk = disk
        self._own = own
        self._paths = tuple(self.own(end) for end in (FEED, READ, TEXT))
        self._feed = FeedFile(self._paths[0], disk)
        self._read = FileReadFile(self._paths[1], disk)
        self.journal = Journal(self.own(ENTRIES), disk)

    def own(self, end: str) -> Path:
        """The file of the daemon whose name ends so."""
        return self._own / f"{self._name}{end}"

    # -- reading ---------------------------------------------------------------------------------

    def read(self, old: StoredList | None, now: float, *, read_only: bool) -> StoredList:
        """The list as its files have it; a file that cannot be used counts as it was last.

        `old` is what was in force. Raises nothing.
        """
        problems: list[str] = []
        file = self._file_read(old, problems, read_only=read_only)
        entries: Entries = old.added if old else PersistentMap()
        try:
            found = self.journal.read(file.digest if file else NO_FILE)
        except StoreFailed as error:
            problems.append(str(error))
        else:
            problems += self._told(found.problems)
            entries = found.entries
            if found.deleted is not None:
                return self._deleted(found.deleted, file, problems, read_only=read_only)
        ended = [key for key, end in entries.items() if end <= now]
        for key in ended:
            entries = entries.without(key)
        feed = old.feed if old else None
        try:
            feed = self._feed.load()
        except StoreFailed as error:
            problems.append(str(error))
        return StoredList(self._name, file, feed, entries, tuple(problems)).filled()

    def _told(self, problems: tuple[str, ...]) -> list[str]:
        return [
            f"some of the entries in {str(self.journal.path)!r} cannot be read: {problem}"
            for problem in problems[:3]
        ]

    def _deleted(
        self, digest: str, file: FileRead | None, problems: list[str], *, read_only: bool
    ) -> StoredList:
        """What is left of a list that was being deleted when a crash came: a file written since."""
        if not read_only:
            try:
                self.delete(digest)
            except StoreFailed as error:
                problems.append(str(error))
        left = file if file and file.digest != digest else None
        return StoredList(self._name, left, None, PersistentMap(), tuple(problems)).filled()

    def _file_read(
        self, old: StoredList | None, problems: list[str], *, read_only: bool
    ) -> FileRead | None:
        last = old.file if old else None
        with suppress(StoreFailed):
            last = last or self._read.load()
        try:
            content = self._disk.read(self._file, MAX_BYTES)
        except FileNotFoundError:
            if self._file.is_symlink():
                problems.append(f"{str(self._file)!r} is a link that leads nowhere")
                return last
            if not read_only:
                with suppress(OSError):
                    self._disk.unlink(self._paths[1])
                if old is None:
                    self._save_text(None)
            return None
        except OSError as error:
            problems.append(f"{str(self._file)!r} cannot be read: {error.strerror}")
            return last
        digest = sha256(content).hexdigest()
        is_same = last is not None and last.digest == digest
        if old is None and not read_only and not (is_same and self._text_size() == len(content)):
            self._save_text(content)
        if last and is_same:
            problems += last.told(str(self._file))
            return last
        try:
            outcome = read_list(content, str(self._file))
        except IpsecdError as error:
            held = "the list holds what the file held before" if last else "the list is not there"
            problems.append(f"{error.message}; {held}\n  hint: {error.hint}")
            return replace(last, digest=digest) if last else None
        read = file_read(digest, outcome)
        problems += read.told(str(self._file))
        if not read_only:
            # Without it a start reads the text again, or has nothing if that is spoilt by then.
            with suppress(StoreFailed):
                self._read.save(read)
        return read

    # -- writing ---------------------------------------------------------------------------------

    def current_file(self, old: StoredList) -> bytes | None:
        """The bytes of the file, which have to be those that were read; None if there is none.

        Raises ``Refused`` if somebody has edited it since, or ``StoreFailed``.
        """
        try:
            content = self._disk.read(self._file, MAX_BYTES)
        except FileNotFoundError:
            content = None
        except OSError as error:
            raise _failed(self._file, error) from error
        digest = sha256(content).hexdigest() if content is not None else NO_FILE
        if digest != (old.file.digest if old.file else NO_FILE):
            raise Refused(
                f"{str(self._file)!r} was edited since it was loaded",
                "look at it, and run: ipsecctl reload",
            )
        return content

    def make_file(self, content: bytes, read: FileRead | None) -> None:
        """Write the file of a new list; raises ``Refused`` if there is one, or ``StoreFailed``."""
        self.current_file(StoredList(self._name, None, None, PersistentMap()))
        self.write_file(content, None, read)

    def write_file(
        self, content: bytes | None, before: bytes | None = None, read: FileRead | None = None
    ) -> None:
        """Have the file hold `content`, or be absent; durable when it returns.

        Raises ``StoreFailed``; then it holds what was there `before`.
        """
        path = file_behind_links(self._file)
        try:
            self._put(path, content)
        except OSError as error:
            failure = _failed(path, error)
            try:
                self._put(path, before)
            except OSError as second:
                failure.hint += f"; putting the old state back failed too: {second.strerror}"
            raise failure from error
        if read:
            with suppress(StoreFailed):
                self._read.save(read)
        self._save_text(content)

    def _put(self, path: Path, content: bytes | None) -> None:
        if content is None:
            self._disk.unlink(path)
            if path.parent.is_dir():
                self._disk.sync_directory(path.parent)
            return
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._disk.sync_directory(path.parent.parent)
        replace_file(self._disk, path, content)

    # -- what the file held ----------------------------------------------------------------------

    def keep_text(self, digest: str | None) -> None:
        """Keep the bytes of the file, if they have this SHA-256; None: of no file."""
        content = None
        if digest is not None:
            try:
                content = self._disk.read(self._file, MAX_BYTES)
            except OSError:
                return
            if sha256(content).hexdigest() != digest:
                return
        self._save_text(content)

    def _save_text(self, content: bytes | None) -> None:
        path = self._paths[2]
        # Whoever needs it compares its digest, so that it is there is no promise.
        with suppress(OSError):
            if content is None:
                self._disk.unlink(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._disk, path, content)

    def _text_size(self) -> int | None:
        with suppress(OSError):
            return self._paths[2].stat().st_size
        return None

    def must_have_text(self, digest: str) -> None:
        """Raise ``Refused`` unless the bytes with this SHA-256, which the file held, are kept."""
        if self._has_text(digest):
            return
        self.keep_text(digest)
        if self._has_text(digest):
            return
        raise Refused(
            f"it is not known any more what {str(self._file)!r} held before it was edited, so it "
            "could not be put back",
            "make the change without --confirm",
        )

    def _has_text(self, digest: str) -> bool:
        with suppress(OSError):
            return sha256(self._disk.read(self._paths[2], MAX_BYTES)).hexdigest() == digest
        return False

    def is_saved(self, read: FileRead) -> bool:
        """Whether just this is kept of the file."""
        with suppress(StoreFailed):
            return self._read.load() == read
        return False

    def is_saved_feed(self, feed: Feed) -> bool:
        """Whether just this is kept of what came from the URL."""
        with suppress(StoreFailed):
            return self._feed.load() == feed
        return False

    def put_file_back(self, content: bytes | None, read: FileRead | None) -> None:
        """Have the file hold `content` again, or be absent; raises ``OSError``.

        What it holds in its place is kept beside it. It may be done again.
        """
        with suppress(OSError):
            if self._disk.read(self._file, MAX_BYTES) == content:
                return
        path = self._file if content is None else file_behind_links(self._file)
        if os.path.lexists(path):
            self._keep_beside(path)
        self._put(path, content)
        if read:
            with suppress(StoreFailed):
                self._read.save(read)
        else:
            self._disk.unlink(self._paths[1])
        self._save_text(content)

    def _keep_beside(self, path: Path) -> None:
        """Give what is at `path` a second name, unless it has one since this was tried before."""
        name = path.with_name(name_beside(path, UNCONFIRMED))
        if not os.path.lexists(name):
            keep_or_copy(self._disk, path, name, MAX_BYTES)
            self._disk.sync_directory(path.parent)

    def put_entries_back(self, added: Entries) -> None:
        """Have the journal say that these entries were added; raises ``StoreFailed``."""
        if added:
            self.journal.rewrite(added)
        elif os.path.lexists(self.journal.path):
            self.journal.unlink()

    def save_feed(self, feed: Feed | None, before: Feed | None) -> None:
        """Keep a feed, or none; raises ``StoreFailed``, and then `before` is kept."""
        try:
            self._save_feed(feed)
        except StoreFailed as failure:
            # It may have got its name already, and only that is not known to be on disk.
            try:
                self._save_feed(before)
            except StoreFailed as second:
                failure.hint += f"; putting the old state back failed too: {second.message}"
            raise

    def _save_feed(self, feed: Feed | None) -> None:
        if feed:
            self._feed.save(feed)
        else:
            self._guarded(self._paths[0], lambda: self._disk.unlink(self._paths[0]))

    def tidy(self, stored: StoredList) -> None:
        """Write the journal anew, after a change whose condition has come true or never will."""
        if self.journal.path.exists():
            self.journal.rewrite(stored.added)

    def delete(self, digest: str) -> None:
        """Carry out a deletion that the journal has; raises ``StoreFailed``.

        The file goes only if its bytes are those that were to be deleted.
        """
        with suppress(FileNotFoundError):
            try:
                content = self._disk.read(self._file, MAX_BYTES)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _failed(self._file, error) from error
            if sha256(content).hexdigest() == digest:
                self._guarded(self._file, lambda: self._put(self._file, None))
        for path in self._paths:
            self._guarded(path, lambda path=path: self._disk.unlink(path))  # type: ignore[misc]
        self.journal.unlink()

    def finish_deletion(self) -> None:
        """Carry out a deletion that could not be finished, before a list of this name is made."""
        with suppress(StoreFailed):
            found = self.journal.read(NO_FILE)
            if found.deleted is not None:
                self.delete(found.deleted)

    def _guarded(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise _failed(path, error) from error


def file_read(digest: str, outcome: ReadList) -> FileRead:
    """What is kept of a file that was read."""
    malformed = count(outcome.malformed, "malformed line") if outcome.malformed else ""
    if outcome.shown:
        malformed += f"; {outcome.shown[0]}"
    return FileRead(digest, outcome.addresses, outcome.format == PLAIN, malformed)


def _failed(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"{str(path)!r} cannot be read or written: {error.strerror}",
        "look at the free space, the mount options and the owner of the directory",
    )
