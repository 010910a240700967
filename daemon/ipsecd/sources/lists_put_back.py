"""Owns how lists get back what they held before a change; must not know why, nor what is in force.

What is kept is on disk before the change is made. To put it back is a change in memory first, which
is enforced, and then on disk; that may be done again, until it goes well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.model.persistent import PersistentMap
from ipsecd.quoting import quote
from ipsecd.sources.files import Disk
from ipsecd.sources.list_copies import ListCopies
from ipsecd.sources.list_parts import StoredList
from ipsecd.sources.lists import ListChange, Lists, ListStore
from ipsecd.sources.lists_before import ListBefore, ListFacts, ListsBefore


class ListsPutBack:
    """Keeps what lists hold, and puts it back."""

    def __init__(self, store: ListStore, state_dir: Path, disk: Disk | None = None) -> None:
        self._store = store
        self._copies = ListCopies(state_dir, disk)
        self.forget = self._copies.forget

    def differing(self, change: ListChange) -> ListsBefore:
        """What a change that is not made yet will change."""
        now = self._store.lists
        lists = {
            name: ListBefore.of(now.get(name), after, change.keys)
            for name, after in change.after.items()
        }
        return {name: before for name, before in lists.items() if not before.is_nothing}

    def keep(self, lists: ListsBefore) -> None:
        """Keep what is put back of `lists`, which are to be changed; raises ``IpsecdError``."""
        self._copies.keep(lists, {name: self._store.parts_of(name) for name in lists})

    def load(self, facts: Mapping[str, ListFacts]) -> ListsBefore:
        """What was kept; raises ``IpsecdError`` if it cannot be used."""
        return self._copies.load(facts)

    def are_there(self, before: ListsBefore) -> bool:
        """Whether the lists are as they were before, in all that the change changes."""
        return all(each.is_there(self._store.lists.get(name)) for name, each in before.items())

    def as_before(self, before: ListsBefore) -> ListChange:
        """The change that puts lists back; it is in memory alone until ``write`` is called."""
        old, new = self._store.lists, self._over(before)
        changes = {
            name: new[name].addresses if name in new else None
            for name in before
            if (old[name].addresses if name in old else None)
            != (new[name].addresses if name in new else None)
        }
        return ListChange(changes, lambda: self._store.take(new), lambda: self._store.take(old))

    def _over(self, before: ListsBefore) -> Lists:
        lists, now = dict(self._store.lists), self._store.clock()
        for name, each in before.items():
            current = lists.pop(name, None) or StoredList(name, None, None, PersistentMap())
            stored = each.over(current, now)
            if each.file and stored.file:
                problems = stored.file.told(self._store.path_of(name))
                stored = replace(stored, problems=tuple(problems))
            if stored.exists:
                lists[name] = stored
        return dict(sorted(lists.items()))

    def write(self, before: ListsBefore) -> None:
        """Write what ``as_before`` has put back; raises ``StoreFailed``, and may be done again."""
        for name, each in before.items():
            try:
                self._write_list(name, each)
            except OSError as error:
                raise StoreFailed(
                    f"list {quote(name)} cannot be written as it was: {error.strerror}",
                    "look at the free space, the mount options and the owner of the directory",
                ) from error

    def _write_list(self, name: str, before: ListBefore) -> None:
        parts, stored = self._store.parts_of(name), self._store.lists.get(name)
        is_deletion = before.feed is not None and before.feed.put is None
        # First, because a deletion that was not finished is noted there.
        if before.ends or before.file or is_deletion or stored is None:
            parts.put_entries_back(stored.added if stored else PersistentMap())
        if before.feed:
            feed = stored.feed if stored else None
            parts.save_feed(feed, feed)
        if before.file:
            read = before.file.read
            text = self._copies.text(name, read.digest) if read else None
            parts.put_file_back(text, read)
