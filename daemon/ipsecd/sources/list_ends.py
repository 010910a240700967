"""Owns which entry of a list ends next; must not know what ending means."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from math import inf

from ipsecd.sources.list_journal import Entries

SPARE = 1000
"""How many ends of entries that are gone are kept at most, besides one for each that there is."""


class Ends:
    """The ends of entries, the next one first.

    An end counts only while the entry still has it, so that removing one costs nothing here.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entries] = {}
        self._waiting: list[tuple[float, str, bytes]] = []

    def begin(self, entries: Mapping[str, Entries]) -> None:
        """Take the entries of all lists."""
        self._entries = dict(entries)
        self._collect()

    def set(self, name: str, entries: Entries, changed: Iterable[bytes] = ()) -> None:
        """Take the entries of one list, of which those `changed` may have another end."""
        self._entries[name] = entries
        for key in changed:
            end = entries.get(key, inf)
            if end != inf:
                heapq.heappush(self._waiting, (end, name, key))
        if len(self._waiting) > 2 * sum(map(len, self._entries.values())) + SPARE:
            self._collect()

    def next(self) -> float | None:
        """When the next entry ends; None if none does."""
        while self._waiting:
            end, name, key = self._waiting[0]
            if self._entries[name].get(key) == end:
                return end
            heapq.heappop(self._waiting)
        return None

    def ended(self, now: float) -> dict[str, list[bytes]]:
        """The entries that have ended, by list; until they are taken out, again and again."""
        ended: dict[str, set[bytes]] = {}
        passed = []
        while (end := self.next()) is not None and end <= now:
            passed.append(heapq.heappop(self._waiting))
            _, name, key = passed[-1]
            ended.setdefault(name, set()).add(key)
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        return {name: sorted(keys) for name, keys in ended.items()}

    def _collect(self) -> None:
        self._waiting = [
            (end, name, key)
            for name, entries in self._entries.items()
            for key, end in entries.items()
            if end != inf
        ]
        heapq.heapify(self._waiting)
