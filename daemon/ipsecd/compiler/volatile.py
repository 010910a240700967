"""Owns the compiled form of dynamic rules; must not know the time: deadlines are only numbers.

A change and a copy cost the same however many rules there are: what is in force stays as it is
while the next state is made from it. Several rules may share an entry. It stays while any of them
does, until the last deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from ipsecd.compiler.tables import Row, TableId
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.precedence import credited
from ipsecd.model.values import Origin, Store


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

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)

    @property
    def renewed(self) -> frozenset[tuple[TableId, bytes]]:
        """The places whose entry is in both: it stays, with another deadline."""
        removed = {(entry.table, entry.key) for entry in self.removed}
        return frozenset(removed & {(entry.table, entry.key) for entry in self.added})

    def reversed(self) -> Delta:
        """The change that undoes this one."""
        return Delta(self.added, self.removed)


NO_CHANGE = Delta()


@dataclass(frozen=True, slots=True)
class VolatileTable:
    """The entries of one table: for each key its writers with their deadlines."""

    id: TableId
    entries: PersistentMap[bytes, Mapping[Origin, float]] = field(default_factory=PersistentMap)

    def find(self, key: bytes) -> Origin | None:
        """Of the rules that wrote the entry under `key` the credited one, None if there is none."""
        writers = self.entries.get(key)
        return credited(writers) if writers else None

    def __len__(self) -> int:
        return len(self.entries)


Places = tuple[tuple[TableId, bytes], ...]
"""Where the entries of one rule are: tables and keys."""


ENDING = Origin(Store.DYNAMIC.value, "", "")
"""What writes entries that are about to go."""


class Volatile:
    """All entries of all dynamic rules."""

    def __init__(
        self,
        tables: Mapping[TableId, VolatileTable] | None = None,
        rows: PersistentMap[Origin, Places] | None = None,
    ) -> None:
        self._tables = dict(tables or {})
        self._rows: PersistentMap[Origin, Places] = PersistentMap() if rows is None else rows

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

    def rows(self, origin: Origin) -> Places:
        """The entries that the rule of `origin` wrote."""
        return self._rows.get(origin, ())

    def copy(self) -> Volatile:
        """Another that holds the same, and can be changed without this one."""
        return Volatile(self._tables, self._rows)

    def changed(
        self, remove: Iterable[Origin] = (), add: Iterable[tuple[Row, float]] = ()
    ) -> tuple[Volatile, Delta]:
        """This one after a change, and what came and went; each new row has its deadline."""
        other = self.copy()
        return other, other.carry_out(remove, add)

    def credits(self, origin: Origin) -> Iterator[tuple[TableId, bytes]]:
        """The entries whose packets are counted for the rule of `origin`.

        What it shares with another rule counts for one of them.
        """
        for table, key in self.rows(origin):
            if self._tables[table].find(key) == origin:
                yield table, key

    def difference(self, other: Volatile) -> Delta:
        """The change that makes `other` of this one; it takes a look at every entry of both."""
        if other is self:
            return NO_CHANGE
        mine, theirs = frozenset(self.entries()), frozenset(other.entries())
        return Delta(tuple(mine - theirs), tuple(theirs - mine))

    def with_entries(self, entries: Iterable[Entry]) -> Volatile:
        """This one with entries of another besides, which belong to no rule that has a name."""
        other = self.copy()
        for entry in entries:
            other._give(entry.table, entry.key, ENDING, entry.deadline)  # noqa: SLF001 - its own
        return other

    def change(
        self,
        remove: Iterable[Origin] = (),
        add: Iterable[Row] = (),
        deadline: float = inf,
    ) -> Delta:
        """Remove the entries of some rules, add others, and return what came and went.

        A rule whose rows are added must not have any, or be among those removed.
        """
        return self.carry_out(remove, ((row, deadline) for row in add))

    def carry_out(self, remove: Iterable[Origin], add: Iterable[tuple[Row, float]]) -> Delta:
        """Do what ``change`` does, where each new row has a deadline of its own."""
        before: dict[tuple[TableId, bytes], float | None] = {}
        for origin in remove:
            places = self._rows.get(origin, ())
            self._rows = self._rows.without(origin)
            for place in places:
                before.setdefault(place, self._deadline(*place))
                self._take(*place, origin)
        new: dict[Origin, dict[tuple[TableId, bytes], None]] = {}
        for row, deadline in add:
            place = (row.table, row.key)
            before.setdefault(place, self._deadline(*place))
            self._give(*place, row.one.origin, deadline)
            new.setdefault(row.one.origin, {})[place] = None
        for origin, added_places in new.items():
            self._rows = self._rows.with_item(origin, tuple(added_places))
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

    def _give(self, table: TableId, key: bytes, origin: Origin, deadline: float) -> None:
        entries = self._tables.get(table, VolatileTable(table)).entries
        writers = {**entries.get(key, {}), origin: deadline}
        self._tables[table] = VolatileTable(table, entries.with_item(key, writers))

    def _take(self, table: TableId, key: bytes, origin: Origin) -> None:
        entries = self._tables[table].entries
        writers = {other: until for other, until in entries[key].items() if other != origin}
        left = entries.with_item(key, writers) if writers else entries.without(key)
        if left:
            self._tables[table] = VolatileTable(table, left)
        else:
            del self._tables[table]
