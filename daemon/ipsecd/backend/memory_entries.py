"""Owns what entries of lists have matched of the packets that the memory backend judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from ipsecd.backend.base import Count, EntryCounts, WantsEntries
from ipsecd.compiler.tables import TableId
from ipsecd.model.counted_lists import counting_members
from ipsecd.model.fields import ME
from ipsecd.model.lists import AddressList, Form, split
from ipsecd.model.packets import Packet, Point

_NUMBERS = count(1)
"""No two counters have one name, whichever backend they are of."""


@dataclass(slots=True)
class _Counter:
    """What counts for the entries of one form of a list, as a set of nftables does."""

    part: str
    counts: dict[bytes, Count] = field(default_factory=dict)


class MemoryEntries:
    """The counters of entries that are in force, and those that have ended and were not read."""

    def __init__(self) -> None:
        self._lists: Mapping[str, AddressList] = {}
        self._live: dict[tuple[str, Form], _Counter] = {}
        self._ended: list[EntryCounts] = []

    def hold(self, lists: Mapping[str, AddressList]) -> None:
        """Count for entries of `lists`; those that stay keep their counts, others have none."""
        wanted = {
            (name, form): members
            for joined in lists
            for name, members in counting_members(joined, lists).items()
            for form in members.entries
        }
        for key in [key for key in self._live if key not in wanted]:
            self._ended.append(_told(key, self._live.pop(key), has_ended=True))
        for (name, form), members in wanted.items():
            counter = self._live.setdefault((name, form), _Counter(f"memory {next(_NUMBERS)}"))
            entries = set(split(members.entries[form], form.width))
            counter.counts = {e: c for e, c in counter.counts.items() if e in entries}
        self._lists = lists

    def count(self, table: TableId, packet: Packet) -> None:
        """Count a packet that is in a table for the entries by which it is."""
        if packet.point is Point.LEAVING and table.source != ME:
            packet = packet.arrived or packet
        for seen, listed in table.listed:
            form = Form(table.family, listed.length)
            entry = form.packed(int(seen.seen(packet)))
            for name, members in counting_members(listed.name, self._lists).items():
                if members.layers.holds(form, entry):
                    counts = self._live[name, form].counts
                    counts[entry] = counts.get(entry, Count()) + Count(1, 0)
                    break

    def read(self, wanted: WantsEntries) -> list[EntryCounts]:
        """What all counters hold."""
        ended, self._ended = self._ended, []
        now = [
            _told(key, counter)
            if wanted(counter.part, key[0])
            else _told(key, counter)._replace(counts=None)
            for key, counter in self._live.items()
        ]
        return [*ended, *now]

    def before(self) -> Callable[[str], bool]:
        """Tells whether a counter had ended by now."""
        parts = {each.part for each in self._ended}
        return parts.__contains__


def _told(key: tuple[str, Form], counter: _Counter, *, has_ended: bool = False) -> EntryCounts:
    name, form = key
    return EntryCounts(counter.part, name, form, counter.part, dict(counter.counts), 0.0, has_ended)
