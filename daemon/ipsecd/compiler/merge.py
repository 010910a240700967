"""Owns what becomes of matches that several rules have: only here is one credited to a rule.

The rule that is credited is the one that ``decide`` names, so that counters and ``explain`` agree.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from ipsecd.compiler.classifier import Classifier, Table, pack
from ipsecd.compiler.rows import Row
from ipsecd.compiler.tables import TableId
from ipsecd.model.precedence import credited
from ipsecd.model.values import Action, Origin

Entries = dict[bytes, Origin]
FEW = 16
"""A table that grows by less than one part in so many is copied, and not packed anew."""


def credit(entries: Entries, key: bytes, origin: Origin) -> None:
    """Add an entry to those of a table; where it is there, one of its rules is credited."""
    earlier = entries.get(key)
    entries[key] = origin if earlier is None else credited((earlier, origin))


def merged_rows(rows: Iterable[Row]) -> dict[TableId, Entries]:
    """The entries of each table, without those that never decide."""
    tables: dict[TableId, Entries] = {}
    # Most rows are of the table of the row before, and the hash of a table is dear.
    table_before: TableId | None = None
    entries: Entries = {}
    for table, key, filter_in_force in rows:
        if table is not table_before:
            table_before, entries = table, tables.setdefault(table, {})
        credit(entries, key, filter_in_force.origin)
    for table, weaker in tables.items():
        blocks = tables.get(table._replace(action=Action.BLOCK))
        if table.action is not Action.BLOCK and blocks:
            for key in _shadowed(weaker, blocks):
                del weaker[key]
    return {table: entries for table, entries in tables.items() if entries}


def merged(policy: Classifier, selected: Classifier) -> Classifier:
    """Both in one, with the settings of the first: the second has what selectors stand for.

    Its hosts lie in tables of their own, which are looked at before those of the same form, so
    that whatever enforces the first has nothing to do when they change. Prefixes are put into the
    tables of the first, at a cost that depends on the second: of the first, only bytes are copied.
    """
    tables = {table.id: table for table in policy.tables}
    for table in selected.tables:
        of_policy = tables.get(table.id)
        result: Table | None = table
        # Tables that look into lists are in the second only.
        if table.id.is_of_hosts:
            result = _ahead_of(of_policy, table)
        elif of_policy:
            result = _with_entries(of_policy, entries_of(table))
        if result:
            tables[result.id] = result
    for table, action in product(selected.tables, (Action.PERMIT, Action.AUDIT)):
        weaker = tables.get(table.id._replace(action=action))
        blocks = tables.get(table.id._replace(action=Action.BLOCK))
        if table.id.is_of_hosts or not weaker or not blocks:
            continue
        new = entries_of(table)
        beaten = {key for key in new if weaker.find(key) and blocks.find(key)}
        if beaten and len(beaten) == len(weaker):
            del tables[weaker.id]
        elif beaten:
            remaining = {key: by for key, by in entries_of(weaker).items() if key not in beaten}
            tables[weaker.id] = pack(weaker.id, remaining)
    in_order = sorted(tables.values(), key=lambda table: table.id.order)
    return Classifier(tuple(in_order), policy.exemptions, policy.drop_unparsable)


def _ahead_of(of_policy: Table | None, table: Table) -> Table | None:
    """The table, to be looked at before the one `of_policy` that has its form.

    It is without the entries for which a rule of the policy is credited; None if none is left.
    """
    apart = table.id._replace(selected=True)
    if of_policy is None:
        return replace(table, id=apart)
    entries = {}
    for key, origin in entries_of(table).items():
        earlier = of_policy.find(key)
        if earlier is None or credited((earlier, origin)) != earlier:
            entries[key] = origin
    return pack(apart, entries) if entries else None


def _with_entries(table: Table, more: Entries) -> Table:
    """A packed table with more entries, put where they belong in the order of keys."""
    width = table.id.key_width
    if len(more) > len(table) // FEW or any(table.find(key) for key in more):
        entries = entries_of(table)
        for key, origin in more.items():
            credit(entries, key, origin)
        return pack(table.id, entries)
    origins = tuple(sorted({*table.origins, *more.values()}))
    numbers = {origin: number for number, origin in enumerate(origins)}
    writers = array("I")
    if len(origins) > 1:
        moved = array("I", (numbers[origin] for origin in table.origins))
        writers = moved * len(table)
        if table.writers:
            writers = table.writers[:]
            if moved.tolist() != list(range(len(moved))):
                writers = array("I", map(moved.__getitem__, table.writers))
    pieces = []
    end = 0
    for number, key in enumerate(sorted(more)):
        at = table.place(key)
        pieces += [table.keys[end * width : at * width], key]
        end = at
        if len(origins) > 1:
            writers.insert(at + number, numbers[more[key]])
    pieces.append(table.keys[end * width :])
    return Table(table.id, b"".join(pieces), origins, writers)


def entries_of(table: Table) -> Entries:
    """What a packed table holds."""
    width = table.id.key_width
    return {
        table.keys[index * width : (index + 1) * width]: table.origin(index)
        for index in range(len(table))
    }


def _shadowed(weaker: Entries, blocks: Entries) -> set[bytes]:
    """The permits, or audits, that a block with exactly the same match always beats.

    No other entry can be shadowed: what matches a superset of an entry's packets has shorter
    prefixes, fewer protocols or wider ports, and so a lower rank, unless the two are equal. A
    permit that equals an audit decides what that counts.
    """
    return weaker.keys() & blocks.keys()
