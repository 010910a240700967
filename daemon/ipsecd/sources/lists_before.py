"""Owns what lists were before a change that nobody has confirmed, and how they become that again.

It is pure, and must not know how lists are kept. Lists change all the time: what is put back is
what the change put, replaced or removed, and nothing that somebody has changed since. Invariants:

1. The file of a list becomes what it was, whatever it holds now: while the change waits it is
   changed by hand alone, and whoever puts it back keeps what it holds.
2. A feed that has brought other content since stays: it would bring that again.
3. An entry that was added by command becomes what it was unless it has another end since. An end
   that has passed meanwhile is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from ipsecd.language.list_entries import entries_in
from ipsecd.model.persistent import PersistentMap
from ipsecd.quoting import quote
from ipsecd.sources.list_files import Feed, FileRead
from ipsecd.sources.list_journal import key_of, text_of
from ipsecd.sources.list_parts import StoredList
from ipsecd.sources.strict_json import flag, items, members, number, text

_NEVER = "-"
_PRECISION_S = 0.002
"""Ends are kept on disk with three decimals."""


@dataclass(frozen=True, slots=True)
class FileBefore:
    """The file of a list before a change that gave it other bytes; ``read`` is None without one."""

    read: FileRead | None

    @property
    def digest(self) -> str | None:
        """The SHA-256 of what it held."""
        return self.read.digest if self.read else None


@dataclass(frozen=True, slots=True)
class FeedBefore:
    """The feed of a list before a change that gave it another, or other content.

    ``put`` is when what the change has put was fetched, None if it has left no feed.
    """

    feed: Feed | None
    put: float | None

    def over(self, now: Feed | None) -> Feed | None:
        """What the feed becomes when the change is put back, and it is this `now`."""
        if self.feed is None:
            return None
        if now is None or self.put is None:
            return self.feed
        # The next look at the URL comes when it would have come.
        return replace(self.feed, checked=now.checked) if now.fetched == self.put else now


@dataclass(frozen=True, slots=True)
class ListBefore:
    """What a change changes in one list, as it was; None for a part that it leaves alone.

    ``ends`` has the ends of entries that were added by command, before the change and after it;
    None for an entry that is not there.
    """

    file: FileBefore | None = None
    feed: FeedBefore | None = None
    ends: Mapping[bytes, tuple[float | None, float | None]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, old: StoredList | None, new: StoredList | None, keys: Iterable[bytes] = ()
    ) -> ListBefore:
        """What differs in `new`; `keys` are the only entries that may, if there are any."""
        file, new_file = (stored.file if stored else None for stored in (old, new))
        feed, new_feed = (stored.feed if stored else None for stored in (old, new))
        added, after = (stored.added if stored else PersistentMap() for stored in (old, new))
        ends = {key: (added.get(key), after.get(key)) for key in keys or {*added, *after}}
        return cls(
            FileBefore(file) if digest_of(file) != digest_of(new_file) else None,
            FeedBefore(feed, new_feed.fetched if new_feed else None)
            if _facts(feed) != _facts(new_feed)
            else None,
            {key: both for key, both in ends.items() if not _same(*both)},
        )

    @property
    def is_nothing(self) -> bool:
        """Whether the change leaves the list as it was."""
        return self.file is None and self.feed is None and not self.ends

    def is_there(self, stored: StoredList | None) -> bool:
        """Whether the list is as it was before, in all that the change changes."""
        file, feed = (stored.file, stored.feed) if stored else (None, None)
        added = stored.added if stored else PersistentMap()
        return (
            (self.file is None or self.file.digest == digest_of(file))
            and (self.feed is None or _facts(self.feed.feed) == _facts(feed))
            and all(_same(added.get(key), before) for key, (before, _) in self.ends.items())
        )

    def over(self, stored: StoredList, now: float) -> StoredList:
        """What the list becomes if it is `stored` now; it need not exist, before or after."""
        added = stored.added
        for key, (before, put) in self.ends.items():
            present = added.get(key)
            has_ended = present is None and put is not None and put <= now
            if not has_ended and not _same(present, put):
                continue
            if before is None or before <= now:
                added = added.without(key)
            else:
                added = added.with_item(key, before)
        return StoredList(
            stored.name,
            stored.file if self.file is None else self.file.read,
            stored.feed if self.feed is None else self.feed.over(stored.feed),
            added,
            stored.problems if self.file is None else (),
        ).filled(stored, list(self.ends))


ListsBefore = Mapping[str, ListBefore]
"""What a change changes in lists, by name."""


def digest_of(file: FileRead | None) -> str | None:
    """The SHA-256 of the bytes of a file, None if there is none."""
    return file.digest if file else None


def lists_to_json(lists: ListsBefore) -> dict[str, object]:
    """What is kept of lists, without what their files and feeds held."""
    return {name: _to_json(before) for name, before in lists.items()}


def _to_json(before: ListBefore) -> dict[str, object]:
    file, feed = before.file, before.feed
    return {
        "file": file and {"digest": file.digest},
        "feed": feed and {"existed": feed.feed is not None, "put": feed.put},
        "ends": {text_of(key): list(map(_end_to_json, ends)) for key, ends in before.ends.items()},
    }


@dataclass(frozen=True, slots=True)
class ListFacts:
    """What is kept of one list in the file of an unconfirmed change.

    ``file`` says whether the change has changed the file, whose SHA-256 was ``digest``; ``feed``
    likewise, and ``existed`` whether there was one.
    """

    file: bool
    digest: str | None
    feed: bool
    existed: bool
    put: float | None
    ends: Mapping[bytes, tuple[float | None, float | None]]


def facts_from_json(given: object) -> dict[str, ListFacts]:
    """The inverse of ``lists_to_json``, as far as it goes; raises ``ValueError``."""
    return {name: _facts_of_list(name, each) for name, each in members(given, "the lists").items()}


def _facts_of_list(name: str, given: object) -> ListFacts:
    facts = members(given, quote(name), ("file", "feed", "ends"))
    digest, existed, put = None, False, None
    if facts["file"] is not None:
        kept = members(facts["file"], "the file", ("digest",))["digest"]
        digest = None if kept is None else text(kept, "the digest")
    if facts["feed"] is not None:
        feed = members(facts["feed"], "the feed", ("existed", "put"))
        existed = flag(feed["existed"], "whether there was a feed")
        put = None if feed["put"] is None else number(feed["put"], "when it was fetched")
    ends = {}
    for entry, both in members(facts["ends"], "the entries").items():
        before, after = (_end_from_json(end) for end in items(both, "the ends", 2))
        for form, packed in entries_in(entry):
            ends[key_of(form, packed)] = before, after
    return ListFacts(
        facts["file"] is not None, digest, facts["feed"] is not None, existed, put, ends
    )


def _end_to_json(end: float | None) -> object:
    return _NEVER if end == inf else end


def _end_from_json(given: object) -> float | None:
    if given is None:
        return None
    return inf if given == _NEVER else number(given, "an end")


def _same(a: float | None, b: float | None) -> bool:
    """Whether two ends are the same; one that comes from a file is rounded."""
    if a is None or b is None:
        return a is b
    return a == b or abs(a - b) < _PRECISION_S


def _facts(feed: Feed | None) -> object:
    """What tells a feed, or its content, from another."""
    if feed is None:
        return None
    return (feed.url, feed.every_s, feed.form, feed.etag, feed.modified, feed.fetched)
