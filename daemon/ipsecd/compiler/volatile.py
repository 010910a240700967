"""Owns the compiled form of dynamic rules; must not know the time: deadlines are only numbers.

A change and a copy cost the same however many rules there are, because what is in force stays as
it is while the next state is made from it. Several rules may share an entry: it stays as long as
any of them does, until the latest of their deadlines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from ipsecd.compiler.rows import Row
from ipsecd.compiler.tables import TableId
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.precedence import credited
from ipsecd.model.values import Origin, Store


class Entry(NamedTuple):
    """One entry. Its deadline is ``inf`` if it stays until it is removed."""

    table: TableId
    key: bytes
    deadline: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What a change to the dynamic rules does to the entries: removals first, then additions.

    An entry whose deadline changes is both in ``removed`` and in ``added``.
    """

    removed: tuple[Entry, ...] = ()
    added: tuple[Entry, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)

    @property
    def renewed(self) -> frozenset[tuple[TableId, bytes]]:
        """Table and key of every entry that stays and gets another deadline."""
        removed = {(entry.table, entry.key) for entry in self.removed}
        return frozenset(removed & {(entry.table, entry.key) for entry in self.added})

    def reversed(self) -> Delta:
        """The change that undoes this one."""
        return Delta(self.added, self.removed)

    def in_two_steps(self) -> tuple[Delta, Delta]:
        """What adds and renews, and what removes; all in the first if it does not do both."""
        if not (self.removed and self.added):
            return self, NO_CHANGE
        renewed = self.renewed
        removed = tuple(e for e in self.removed if (e.table, e.key) not in renewed)
        if not removed or all((e.table, e.key) in renewed for e in self.added):
            return self, NO_CHANGE
        kept = tuple(e for e in self.removed if (e.table, e.key) in renewed)
        return Delta(kept, self.added), Delta(removed=removed)


NO_CHANGE = Delta()


@dataclass(frozen=True, slots=True)
class VolatileTable:
    """The entries of one table: for each key its writers with their deadlines."""

    id: TableId
    entries: PersistentMap[bytes, Mapping[Origin, float]] = field(default_factory=PersistentMap)

    def find(self, key: bytes) -> Origin | None:
        """The rule that is credited for the entry under `key`, None if there is no such entry."""
        writers = self.entries.get(key)
        return credited(writers) if writers else None

    def with_deadlines(self) -> Iterator[Entry]:
        """Every entry once, with its deadline."""
        for key, writers in self.entries.items():
            yield Entry(self.id, key, max(writers.values()))

    def difference(self, target: VolatileTable) -> Delta:
        """The change that turns this one into `target`, at the cost of what they do not share."""
        removed, added = [], []
        for key, old, new in self.entries.differences(target.entries):
            was, is_ = (max(writers.values()) if writers else None for writers in (old, new))
            if was == is_:
                continue
            if was is not None:
                removed.append(Entry(self.id, key, was))
            if is_ is not None:
                added.append(Entry(self.id, key, is_))
        return Delta(tuple(removed), tuple(added))

    def __len__(self) -> int:
        return len(self.entries)


Places = tuple[tuple[TableId, bytes], ...]
"""Where the entries of one rule are: tables and keys."""


ENDING = Origin(Store.DYNAMIC.value, "", "")
"""The origin of entries that are about to be removed and belong to no rule that has a name."""


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
            yield from table.with_deadlines()

    def rows(self, origin: Origin) -> Places:
        """The entries that the rule of `origin` wrote."""
        return self._rows.get(origin, ())

    def copy(self) -> Volatile:
        """A copy; a change to it does not change this one."""
        return Volatile(self._tables, self._rows)

    def changed(
        self, remove: Iterable[Origin] = (), add: Iterable[tuple[Row, float]] = ()
    ) -> tuple[Volatile, Delta]:
        """A copy after a change, and what came and went; each new row has its deadline."""
        changed = self.copy()
        return changed, changed.carry_out(remove, add)

    def credits(self, origin: Origin) -> Iterator[tuple[TableId, bytes]]:
        """The entries whose packets are counted for the rule of `origin`.

        An entry that several rules share counts for one of them only.
        """
        for table, key in self.rows(origin):
            if self._tables[table].find(key) == origin:
                yield table, key

    def difference(self, target: Volatile) -> Delta:
        """The change that turns this one into `target`.

        It looks at no entry that both share, so of two that are made from one another it costs the
        same however many entries there are.
        """
        removed: list[Entry] = []
        added: list[Entry] = []
        for table in {**self._tables, **target._tables}:
            nothing = VolatileTable(table)
            before, after = self._tables.get(table, nothing), target._tables.get(table, nothing)
            delta = before.difference(after)
            removed += delta.removed
            added += delta.added
        return Delta(tuple(removed), tuple(added))

    def with_entries(self, entries: Iterable[Entry]) -> Volatile:
        """A copy that has `entries` too, which belong to no rule that has a name."""
        extended = self.copy()
        touched: dict[TableId, dict[bytes, Mapping[Origin, float]]] = {}
        for table, key, deadline in entries:
            writers = {**self._writers(table, key), ENDING: deadline}
            touched.setdefault(table, {})[key] = writers
        extended._write(touched)  # noqa: SLF001 - its own
        return extended

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
        """Do what ``change`` does, with a deadline for each new row."""
        touched: dict[TableId, dict[bytes, dict[Origin, float]]] = {}
        before: list[tuple[TableId, bytes, float | None]] = []

        def writers_of(table: TableId, key: bytes) -> dict[Origin, float]:
            of_table = touched.get(table)
            if of_table is None:
                of_table = touched[table] = {}
            writers = of_table.get(key)
            if writers is None:
                writers = of_table[key] = dict(self._writers(table, key))
                before.append((table, key, max(writers.values()) if writers else None))
            return writers

        for origin in remove:
            places = self._rows.get(origin, ())
            self._rows = self._rows.without(origin)
            for place in places:
                del writers_of(*place)[origin]
        new: dict[Origin, list[tuple[TableId, bytes]]] = {}
        for (table, key, filter_in_force), deadline in add:
            writers, origin = writers_of(table, key), filter_in_force.origin
            if origin not in writers:
                new.setdefault(origin, []).append((table, key))
            writers[origin] = deadline
        self._rows = self._rows.with_items(
            {origin: tuple(added_places) for origin, added_places in new.items()}
        )
        self._write(touched)
        removed, added = [], []
        for table, key, old in before:
            writers = touched[table][key]
            now = max(writers.values()) if writers else None
            if old == now:
                continue
            if old is not None:
                removed.append(Entry(table, key, old))
            if now is not None:
                added.append(Entry(table, key, now))
        return Delta(tuple(removed), tuple(added))

    def _writers(self, table: TableId, key: bytes) -> Mapping[Origin, float]:
        volatile_table = self._tables.get(table)
        return (volatile_table.entries.get(key) if volatile_table else None) or {}

    def _write(self, touched: Mapping[TableId, Mapping[bytes, Mapping[Origin, float]]]) -> None:
        """Set who writes some entries of tables; one that nobody writes is gone."""
        for table, writers_at in touched.items():
            entries = self._tables.get(table, VolatileTable(table)).entries
            for key, writers in writers_at.items():
                if not writers:
                    entries = entries.without(key)
            entries = entries.with_items({k: w for k, w in writers_at.items() if w})
            if entries:
                self._tables[table] = VolatileTable(table, entries)
            else:
                self._tables.pop(table, None)


NOTHING_DYNAMIC = Volatile()
"""No entries; nobody changes it."""
