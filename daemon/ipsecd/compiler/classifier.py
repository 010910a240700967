"""Owns the compiled policy: tables in the order of their rank, and a digest of all of it.

A classifier is immutable. It says what to look up and in which order; it must not know what does
the look-ups.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, Protocol, TypeVar

from ipsecd.compiler.tables import Keys, TableId, keys_of
from ipsecd.model.addresses import Family
from ipsecd.model.counted_lists import counting_members
from ipsecd.model.exemptions import Pattern, exemption
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.united import list_of
from ipsecd.model.values import Action, Origin


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a classifier does with a packet; ``origin`` is None unless a table decided.

    ``audited`` is the audit that counts it, if one does.
    """

    action: Action
    origin: Origin | None = None
    audited: Origin | None = None


PASS = Verdict(Action.PERMIT)


class HasTableId(Protocol):
    """Anything that belongs to one table and has its identifier."""

    @property
    def id(self) -> TableId:
        """What the table looks at."""


class SearchableTable(HasTableId, Protocol):
    """A table in which a key can be looked up: part of a classifier, or a volatile one."""

    def find(self, key: bytes) -> Origin | None:
        """Where the entry under `key` was written, None if there is no such entry."""


@dataclass(frozen=True)
class Table:
    """The entries of one table, packed.

    ``keys`` are ``id.key_width`` bytes each, ascending, end to end (one empty key if the width
    is 0). ``writers`` holds for each key the index into ``origins``; a table written by one rule
    has an empty one.
    """

    id: TableId
    keys: bytes
    origins: tuple[Origin, ...]
    writers: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.keys) // self.id.key_width if self.id.key_width else 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that the table holds, in hexadecimal."""
        table = self.id
        kind = (table.family, table.volatile, table.action, table.selected, table.protected)
        hasher = hashlib.sha256(repr((kind, table.looks, self.origins)).encode())
        hasher.update(self.keys)
        hasher.update(self.writers.tobytes())
        return hasher.hexdigest()

    def find(self, key: bytes) -> Origin | None:
        """Where the entry under `key` was written, None if there is no such entry."""
        width = self.id.key_width
        if not width:
            return self.origins[0]
        index = self.place(key)
        if self.keys[index * width : (index + 1) * width] != key:
            return None
        return self.origin(index)

    def place(self, key: bytes) -> int:
        """How many entries of a table with keys stand before `key`."""
        width, keys = self.id.key_width, self.keys
        numbers = range(len(keys) // width)
        return bisect_left(
            numbers, key, key=lambda index: keys[index * width : (index + 1) * width]
        )

    def origin(self, index: int) -> Origin:
        """Where entry number `index` was written."""
        return self.origins[self.writers[index] if self.writers else 0]


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of tables of one action; their order among each other does not change the verdict."""

    action: Action
    tables: tuple[SearchableTable, ...]


@dataclass(frozen=True)
class Classifier:
    """The whole compiled policy.

    ``tables`` are in descending rank. ``exemptions`` are names of what passes before any table
    is looked at. ``drop_unparsable`` says what becomes of packets whose headers cannot be read,
    while anything is blocked. ``lists`` are the lists that tables look into, also volatile ones, as
    they are at the moment: of a policy that is kept on disk they are no part.
    """

    tables: tuple[Table, ...] = ()
    exemptions: tuple[str, ...] = ()
    drop_unparsable: bool = True
    lists: Mapping[str, AddressList] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything that decides, in hexadecimal: equal rules, equal digest."""
        hasher = hashlib.sha256(repr((self.exemptions, self.drop_unparsable)).encode())
        for table in self.tables:
            hasher.update(table.digest.encode())
        for name in sorted(self.lists):
            hasher.update(f"@{name}:{self.lists[name].digest}".encode())
            if counting := counting_members(name, self.lists):
                hasher.update(f"counts:{sorted(counting)}".encode())
        return hasher.hexdigest()

    def with_lists(
        self, lists: Mapping[str, AddressList], volatile: Iterable[HasTableId] = ()
    ) -> Classifier:
        """This classifier with those of `lists` that it or `volatile` tables look into."""
        names = {
            listed.name for table in (*self.tables, *volatile) for _, listed in table.id.listed
        }
        stood_for = {name: list_of(name, lists) for name in sorted(names)}
        used = {name: entries for name, entries in stood_for.items() if entries is not None}
        is_same = used.keys() == self.lists.keys() and all(
            used[name] is entries for name, entries in self.lists.items()
        )
        return self if is_same else replace(self, lists=used)

    @cached_property
    def origins(self) -> frozenset[Origin]:
        """Every rule that has an entry."""
        return frozenset(origin for table in self.tables for origin in table.origins)

    def stages(
        self, point: Point, family: Family, volatile: Sequence[SearchableTable] = ()
    ) -> tuple[Stage, ...]:
        """What is looked up for packets of `family` at `point`, first to last."""
        tables = [
            table
            for table in in_order((*self.tables, *volatile), point)
            if table.id.family is family and point in table.id.points
        ]
        return tuple(
            Stage(action, tuple(run)) for action, run in groupby(tables, lambda t: t.id.action)
        )

    def lookup(
        self, packet: Packet, host: Host, volatile: Sequence[SearchableTable] = ()
    ) -> Verdict:
        """What the tables, together with `volatile` ones, do with `packet` on `host`.

        They look into the classifier's lists, whatever lists the host has.
        """
        return Lookups(self, host, volatile).verdict(packet)


class Entry(NamedTuple):
    """The entry of a table that decides about a packet or counts it, and where it was written."""

    action: Action
    origin: Origin
    table: TableId
    key: bytes


class Lookups:
    """Looks packets up in the tables of a classifier, together with `volatile` ones, on a host.

    What is looked up, and in which order, is found out once for each point and protocol.
    """

    def __init__(
        self, classifier: Classifier, host: Host, volatile: Sequence[SearchableTable] = ()
    ) -> None:
        self._classifier = classifier
        self._host = replace(host, lists=classifier.lists)
        self._volatile = volatile
        self._patterns = [
            pattern for name in classifier.exemptions for pattern in exemption(name).patterns
        ]
        self._at: dict[tuple[Point, Family, int], _LookedUp] = {}

    def verdict(self, packet: Packet) -> Verdict:
        """What becomes of a packet."""
        if packet.interface_type is not None and not packet.parsed:
            tables = (*self._classifier.tables, *self._volatile)
            blocking = any(table.id.action is Action.BLOCK for table in tables)
            if self._classifier.drop_unparsable and blocking and packet.point is not Point.LEAVING:
                return Verdict(Action.BLOCK)
            return PASS
        audit, entry = self.entries(packet)
        audited = audit.origin if audit else None
        if entry is None:
            return Verdict(Action.PERMIT, None, audited) if audited else PASS
        return Verdict(entry.action, entry.origin, audited)

    def entry(self, packet: Packet) -> Entry | None:
        """The entry that decides about a packet whose headers can be read; None if none does."""
        return self.entries(packet)[1]

    def entries(self, packet: Packet) -> tuple[Entry | None, Entry | None]:
        """The audit that counts a packet whose headers can be read, and the entry that decides.

        An audit counts if nothing that is looked up before it has the packet; then no other does.
        """
        if packet.interface_type is None:
            return None, None
        host = self._host
        at = packet.point, packet.family, packet.protocol
        looked_up = self._at.get(at) or self._looked_up(*at)
        for pattern in looked_up.patterns:
            if pattern.matches(packet, host):
                return None, None
        audit: Entry | None = None
        for action, keys, table in looked_up.tables:
            if audit and action is Action.AUDIT:
                continue
            key = keys.key(packet, host)
            origin = None if key is None else table.find(key)
            if key is not None and origin is not None:
                found = Entry(action, origin, table.id, key)
                if action is not Action.AUDIT:
                    return audit, found
                audit = found
        return audit, None

    def _looked_up(self, point: Point, family: Family, protocol: int) -> _LookedUp:
        patterns = tuple(
            pattern
            for pattern in self._patterns
            if point in pattern.points
            and pattern.family in (None, family)
            and pattern.protocol in (None, protocol)
        )
        tables = tuple(
            (stage.action, keys_of(family, table.id.shapes), table)
            for stage in self._classifier.stages(point, family, self._volatile)
            for table in stage.tables
        )
        self._at[point, family, protocol] = looked_up = _LookedUp(patterns, tables)
        return looked_up


class _LookedUp(NamedTuple):
    """What is asked about packets of a protocol at a point: exemptions, and tables in order."""

    patterns: tuple[Pattern, ...]
    tables: tuple[tuple[Action, Keys, SearchableTable], ...]


_origin_order = attrgetter("store", "policy", "rule")
"""A sort key that orders the origins of a table as their own comparison does, at a quarter of the
cost: either all of them audit or none."""
AnyTable = TypeVar("AnyTable", bound=HasTableId)


def in_order(tables: Iterable[AnyTable], point: Point | None = None) -> list[AnyTable]:
    """`tables` with the greatest rank first, in the order that counts for packets at `point`."""
    return sorted(tables, key=lambda table: table.id.order_at(point))


def pack(table: TableId, entries: Mapping[bytes, Origin]) -> Table:
    """The packed table of `entries`, which map each key to where it was written."""
    keys = sorted(entries)
    origins = tuple(sorted(set(entries.values()), key=_origin_order))
    index = {origin: number for number, origin in enumerate(origins)}
    writers = array("I", (index[entries[key]] for key in keys)) if len(origins) > 1 else array("I")
    return Table(table, b"".join(keys), origins, writers)
