"""Owns the compiled form of dynamic rules; must not know the time: deadlines are only numbers.

It is changed in place, at a cost that does not depend on how many rules there are. Several rules
may share an entry. It stays while any of them does, until the last deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from ipsecd.compiler.tables import Row, TableId
from ipsecd.model.values import Origin


class Entry(NamedTuple):
    """One entry with its deadline; ``inf`` for one that stays until it is removed."""

    table: TableId
    key: bytes
    deadline: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What a change to the dynamic rules does to the entries: removals first, then additions.

    An entry whose deadline changes is in both.
    """

    removed: tuple[Entry, ...] = ()
    added: tuple[Entry, ...] = ()

    def reversed(self) -> Delta:
        """The change that undoes this one."""
        return Delta(self.added, self.removed)


@dataclass(slots=True)
class VolatileTable:
    """The entries of one table: for each key its writers with their deadlines."""

    id: TableId
    entries: dict[bytes, dict[Origin, float]] = field(default_factory=dict)

    def find(self, key: bytes) -> Origin | None:
        """One of the rules that wrote the entry under `key`, None if there is none."""
        writers = self.entries.get(key)
        return min(writers) if writers else None

    def __len__(self) -> int:
        return len(self.entries)


class Volatile:
    """All entries of all dynamic rules."""

    def __init__(self) -> None:
        self._tables: dict[TableId, VolatileTable] = {}
        self._rows: dict[Origin, tuple[tuple[TableId, bytes], ...]] = {}

    @property
    def tables(self) -> tuple[VolatileTable, ...]:
        """The tables that hold entries, in no particular order."""
        return tuple(self._tables.values())

    def __contains__(self, table: object) -> bool:
        return table in self._tables

    def entries(self) -> Iterator[Entry]:
        """Every entry once, with its deadline."""
        for table in self._tables.values():
            for key, writers in table.entries.items():
                yield Entry(table.id, key, max(writers.values()))

    def rows(self, origin: Origin) -> Sequence[tuple[TableId, bytes]]:
        """The entries that the rule of `origin` wrote."""
        return self._rows.get(origin, ())

    def change(
        self,
        remove: Iterable[Origin] = (),
        add: Iterable[Row] = (),
        deadline: float = inf,
    ) -> Delta:
        """Remove the entries of some rules, add others, and return what came and went.

        A rule whose rows are added must not have any, or be among those removed.
        """
        before: dict[tuple[TableId, bytes], float | None] = {}
        for origin in remove:
            for place in self._rows.pop(origin, ()):
                before.setdefault(place, self._deadline(*place))
                self._take(*place, origin)
        new: dict[Origin, dict[tuple[TableId, bytes], None]] = {}
        for row in add:
            place = (row.table, row.key)
            before.setdefault(place, self._deadline(*place))
            table = self._tables.setdefault(row.table, VolatileTable(row.table))
            table.entries.setdefault(row.key, {})[row.one.origin] = deadline
            new.setdefault(row.one.origin, {})[place] = None
        for origin, places in new.items():
            self._rows[origin] = tuple(places)
        removed, added = [], []
        for place, old in before.items():
            now = self._deadline(*place)
            if old == now:
                continue
            if old is not None:
                removed.append(Entry(*place, old))
            if now is not None:
                added.append(Entry(*place, now))
        return Delta(tuple(removed), tuple(added))

    def _deadline(self, table: TableId, key: bytes) -> float | None:
        found = self._tables.get(table)
        writers = found.entries.get(key) if found else None
        return max(writers.values()) if writers else None

    def _take(self, table: TableId, key: bytes, origin: Origin) -> None:
        found = self._tables[table]
        writers = found.entries[key]
        del writers[origin]
        if not writers:
            del found.entries[key]
        if not found.entries:
            del self._tables[table]
