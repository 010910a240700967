"""Owns the address lists on disk: files that people edit, feeds, and entries added by command.

A list has up to three parts: the file ``lists/NAME`` among the settings, what came from a URL, and
the journal of entries that were added, with their ends. Invariants:

1. What is changed is on disk before it is acknowledged. After a crash at any moment all of a change
   has happened, or nothing.
2. A part that cannot be used is told by name and disables only itself. A file that was good once
   stays in force with what it held then.
3. An edit by hand since a file was read is never overwritten.

It is used in one thread; ``lists`` may be read in any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import inf

from ipsecd.config import Directories
from ipsecd.errors import NotFound, Refused
from ipsecd.language.address_lists import ReadList
from ipsecd.language.list_editing import text_without
from ipsecd.language.list_entries import format_list
from ipsecd.language.list_formats import PLAIN
from ipsecd.model.addresses import check_list_name
from ipsecd.model.lists import AddressList
from ipsecd.model.packing import shared, without
from ipsecd.model.persistent import PersistentMap
from ipsecd.quoting import count, quote
from ipsecd.sources.files import Disk
from ipsecd.sources.list_ends import Ends
from ipsecd.sources.list_files import Feed, FileRead, shown_url
from ipsecd.sources.list_journal import Entries, keys_of
from ipsecd.sources.list_names import must_be_of_a_list, names_in
from ipsecd.sources.list_parts import NO_FILE, Parts, StoredList
from ipsecd.sources.lists_before import digest_of

LISTS = "lists"
"""The directory, among the settings and in the daemon's own."""
Lists = Mapping[str, StoredList]


@dataclass(frozen=True, slots=True)
class ListChange:
    """A prepared change: what the lists are after it, how it is made durable, and undone.

    ``finish`` cleans up after it; what it leaves undone is done by the next start.
    """

    changes: Mapping[str, AddressList | None]
    commit: Callable[[], None]
    undo: Callable[[], None]
    finish: Callable[[], None] = lambda: None
    after: Mapping[str, StoredList | None] = field(default_factory=dict)
    """What becomes of lists that somebody changes, or may change; None for one that is gone."""
    keys: Sequence[bytes] = ()
    """The entries that were added by command and change; without any, it may be all."""


NOTHING = ListChange({}, lambda: None, lambda: None)
"""The change to what is there already."""


class ListStore:
    """All lists of this host."""

    def __init__(
        self,
        directories: Directories,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds since the epoch: ends of entries survive a reboot."""
        self._files = directories.config / LISTS
        self._own = directories.state / LISTS
        self._disk = disk or Disk()
        self.clock = clock
        self._parts: dict[str, Parts] = {}
        self._ends = Ends()
        self.lists: Lists = {}
        self.problems: tuple[str, ...] = ()
        """What is wrong with files that belong to no list, or to a list without content."""

    # -- reading ---------------------------------------------------------------------------------
    def load(self, *, read_only: bool = False) -> None:
        """Read all lists. Finish what a crash interrupted, unless it is `read_only`."""
        before = self.lists
        lists, problems = self._read(read_only=read_only)
        self.take(lists, problems)
        if not read_only:
            self._keep_texts(before)

    def reloaded(self) -> ListChange:
        """The change to what the files say now; it writes nothing that people wrote."""
        before, problems_before = self.lists, self.problems
        lists, problems = self._read(read_only=False)
        changes: dict[str, AddressList | None] = {
            name: stored.addresses
            for name, stored in lists.items()
            if name not in before or before[name].addresses != stored.addresses
        }
        changes |= dict.fromkeys(before.keys() - lists.keys())
        after = {name: lists.get(name) for name in before.keys() | lists.keys()}

        return ListChange(
            changes,
            lambda: self.take(lists, problems),
            lambda: self.take(before, problems_before),
            lambda: self._keep_texts(before),
            after,
        )

    def _keep_texts(self, before: Lists) -> None:
        """Keep what the files hold that have changed since they were read `before`."""
        for name, old in before.items():
            new = self.lists.get(name)
            digests = [digest_of(stored.file) if stored else None for stored in (old, new)]
            if digests[0] != digests[1]:
                self.parts_of(name).keep_text(digests[1])

    def _read(self, *, read_only: bool) -> tuple[Lists, tuple[str, ...]]:
        lists = {}
        problems: list[str] = []
        names, wrong = names_in(self._files, self._own)
        now = self.clock()
        for name in names:
            stored = self.parts_of(name).read(self.lists.get(name), now, read_only=read_only)
            if stored.exists:
                lists[name] = stored
            else:
                problems += stored.problems
        return lists, (*wrong, *problems)

    def parts_of(self, name: str) -> Parts:
        """The files of a list, which need not exist."""
        if name not in self._parts:
            self._parts[name] = Parts(name, self._files / name, self._own, self._disk)
        return self._parts[name]

    def take(self, lists: Lists, problems: tuple[str, ...] | None = None) -> None:
        """Have `lists` be what there is, in memory alone."""
        self.lists = lists
        self.problems = self.problems if problems is None else problems
        self._ends.begin({name: stored.added for name, stored in lists.items()})

    # -- changes ---------------------------------------------------------------------------------

    def get(self, name: str) -> StoredList:
        """The list called `name`; raises ``NotFound``."""
        check_list_name(name)
        if name not in self.lists:
            raise NotFound(
                f"there is no list {quote(name)}",
                "ipsecctl list show lists those there are; make it with: ipsecctl list create "
                f"{name}",
            )
        return self.lists[name]

    def path_of(self, name: str) -> str:
        """The path of the file of a list."""
        return str(self._files / name)

    def must_be_new(self, name: str) -> None:
        """Raise ``Refused`` if there is a list of this name, or ``InvalidInput`` if none can be."""
        must_be_of_a_list(name)
        if name in self.lists:
            raise Refused(
                f"there is a list {quote(name)} already",
                f"replace what it holds with: ipsecctl list replace {name} FILE",
            )

    def create(self, name: str, content: bytes, read: ReadList) -> ListChange:
        """Make a list of what was `read` from `content`, as a file for people to edit."""
        self.must_be_new(name)
        parts = self.parts_of(name)
        text = _text(content, read)
        new = StoredList(name, FileRead(_digest(text), read.addresses), None, PersistentMap())
        return self._change(
            new,
            lambda: parts.make_file(text, new.file),
            lambda: parts.write_file(None),
        )

    def create_feed(self, name: str, feed: Feed) -> ListChange:
        """Make a list of what came from a URL."""
        self.must_be_new(name)
        return self._with_feed(StoredList(name, None, None, PersistentMap()), feed)

    def update(self, name: str, feed: Feed) -> ListChange:
        """Keep what came from the URL of a list."""
        return self._with_feed(self.get(name), feed)

    def _with_feed(self, old: StoredList, feed: Feed) -> ListChange:
        parts = self.parts_of(old.name)
        new = replace(old, feed=feed)
        return self._change(
            new, lambda: parts.save_feed(feed, old.feed), lambda: parts.save_feed(old.feed, feed)
        )

    def replace(self, name: str, content: bytes, read: ReadList) -> ListChange:
        """Have a list hold what was `read` from `content`, and nothing else."""
        old = self.get(name)
        if old.feed:
            raise Refused(
                f"list {quote(name)} comes from {quote(shown_url(old.feed.url))}, and the next "
                "update would replace what you give it",
                f"give the list another name, or run first: ipsecctl list delete {name}",
            )
        parts = self.parts_of(name)
        text = _text(content, read)
        before = parts.current_file(old)
        if before == text and not old.added:
            return NOTHING
        new = StoredList(name, FileRead(_digest(text), read.addresses), None, PersistentMap())

        def commit() -> None:
            if old.added:
                parts.journal.void_with(_digest(text), old.added)
            parts.write_file(text, before, new.file)

        return self._change(
            new, commit, lambda: self._restore(parts, before, old), lambda: parts.tidy(new)
        )

    def add(self, name: str, addresses: AddressList, end: float = inf) -> ListChange:
        """Add entries that stay until `end`, in seconds since the epoch, or for ever."""
        old = self.get(name)
        journal = self.parts_of(name).journal
        keys = list(keys_of(addresses))
        if all(old.added.get(key) == end for key in keys):
            # They are there already, and from now on because of whoever adds them again.
            return replace(NOTHING, after={name: old}, keys=keys)
        added = old.added
        for key in keys:
            added = added.with_item(key, end)
        new = replace(old, added=added)
        return self._change(
            new,
            lambda: journal.put(keys, end, old.added, added),
            lambda: journal.rewrite(old.added),
            changed=keys,
        )

    def remove(self, name: str, addresses: AddressList) -> ListChange:
        """Take entries out, wherever they are; raises ``NotFound`` if one is in no part."""
        old = self.get(name)
        missing = without(addresses, old.addresses)
        if missing.entries:
            raise _not_an_entry(old, missing)
        in_feed = shared(addresses, old.feed.addresses) if old.feed else AddressList()
        if old.feed and in_feed.entries:
            raise Refused(
                f"{_first(in_feed)} comes from {quote(shown_url(old.feed.url))}, so the next "
                "update would bring it back",
                "permit it by a rule, which an address outranks the prefixes it lies in; or ask "
                "who publishes the list",
            )
        in_file = shared(addresses, old.file.addresses) if old.file else AddressList()
        keys = [key for key in keys_of(addresses) if key in old.added]
        added = _without(old.added, keys)
        parts = self.parts_of(name)
        if not old.file or not in_file.entries:
            return self._change(
                replace(old, added=added),
                lambda: parts.journal.drop(keys, old.added, added),
                lambda: parts.journal.rewrite(old.added),
                changed=keys,
            )
        if not old.file.plain:
            raise Refused(
                f"the file of list {quote(name)} is not in the plain form, one entry a line",
                f"edit {str(self._files / name)!r} and run: ipsecctl reload",
            )
        before = parts.current_file(old)
        text = text_without(before or b"", in_file)
        read = FileRead(_digest(text), without(old.file.addresses, in_file))
        new = replace(old, file=read, added=added)

        def commit() -> None:
            if keys:
                parts.journal.drop_with(_digest(text), keys, old.added)
            parts.write_file(text, before, read)

        return self._change(
            new, commit, lambda: self._restore(parts, before, old), lambda: parts.tidy(new)
        )

    def delete(self, name: str) -> ListChange:
        """Delete a list with all its parts."""
        old = self.get(name)
        parts = self.parts_of(name)
        parts.current_file(old)
        digest = old.file.digest if old.file else NO_FILE
        return self._change(
            old,
            lambda: parts.journal.delete_with(digest, old.added),
            lambda: parts.journal.rewrite(old.added),
            lambda: parts.delete(digest),
            gone=True,
        )

    def _restore(self, parts: Parts, content: bytes | None, old: StoredList) -> None:
        parts.write_file(content, read=old.file)
        parts.tidy(old)

    def next_end(self) -> float | None:
        """When the next entry ends, in seconds since the epoch; None if none does."""
        return self._ends.next()

    def expire(self) -> ListChange | None:
        """The change by which entries go that have ended; None if none has.

        Nothing is written: the journal has the ends.
        """
        ended = self._ends.ended(self.clock())
        if not ended:
            return None
        before = self.lists
        lists = dict(before)
        for name, keys in ended.items():
            old = lists[name]
            lists[name] = replace(old, added=_without(old.added, keys)).filled(old, keys)
        changes = {name: lists[name].addresses for name in ended}
        return ListChange(changes, lambda: self.take(lists), lambda: self.take(before))

    # -- what all changes share ------------------------------------------------------------------

    def _change(
        self,
        new: StoredList,
        commit: Callable[[], None],
        undo: Callable[[], None],
        finish: Callable[[], None] = lambda: None,
        *,
        gone: bool = False,
        changed: Sequence[bytes] = (),
    ) -> ListChange:
        name, old = new.name, self.lists.get(new.name)
        new = new.filled(old, changed)

        def committed() -> None:
            if old is None:
                self.parts_of(name).finish_deletion()
            commit()
            self._put(name, None if gone else new, changed)

        def undone() -> None:
            undo()
            self._put(name, old, changed)

        after = None if gone else new
        entries = {name: after.addresses if after else None}
        return ListChange(entries, committed, undone, finish, {name: after}, changed)

    def _put(self, name: str, stored: StoredList | None, changed: Sequence[bytes]) -> None:
        lists = {key: value for key, value in self.lists.items() if key != name}
        if stored:
            lists[name] = stored
        self.lists = dict(sorted(lists.items()))
        self._ends.set(name, stored.added if stored else PersistentMap(), changed)


def _without(entries: Entries, keys: list[bytes]) -> Entries:
    for key in keys:
        entries = entries.without(key)
    return entries


def _text(content: bytes, read: ReadList) -> bytes:
    """What is written into the file of a list: the text as it came, if it is plain."""
    if read.format == PLAIN:
        return content
    lines = (f"# {count(len(read.addresses), 'entry')}", *format_list(read.addresses))
    return "".join(f"{line}\n" for line in lines).encode()


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _first(addresses: AddressList) -> str:
    return next(format_list(addresses))


def _not_an_entry(stored: StoredList, missing: AddressList) -> NotFound:
    network = next(missing.networks())
    covering = next(stored.addresses.covering(network.family, network.address), None)
    hint = f"ipsecctl list show {stored.name} ADDRESS says which entry an address is in"
    if covering is not None:
        hint = f"the address is in an entry with the prefix length {covering}; {hint}"
    return NotFound(f"list {quote(stored.name)} has no entry {_first(missing)}", hint)
