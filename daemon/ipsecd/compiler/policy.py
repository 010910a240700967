"""Owns compilation: filters in force to a classifier; pure and independent of their order."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.compiler.classifier import Classifier, Table, pack
from ipsecd.compiler.tables import TableId, rows_of
from ipsecd.model.values import Action, InForce, Origin


def compile_filters(
    in_force: Iterable[InForce],
    exemptions: Iterable[str] = (),
    *,
    drop_unparsable: bool = True,
) -> Classifier:
    """The classifier of the filters `in_force`; the same filters in any order give the same one.

    Raises ``Refused`` for a filter whose DNS name has not been resolved.
    """
    tables: dict[TableId, dict[bytes, Origin]] = {}
    for row in rows_of(in_force):
        entries = tables.setdefault(row.table, {})
        origin = row.one.origin
        known = entries.get(row.key)
        # Two rules with the same match and action: one of them is credited, always the same.
        if known is None or origin < known:
            entries[row.key] = origin
    _drop_shadowed(tables)
    packed = [pack(table, entries) for table, entries in tables.items() if entries]
    packed.sort(key=lambda table: table.id.order)
    return Classifier(tuple(packed), tuple(sorted(exemptions)), drop_unparsable)


def _drop_shadowed(tables: dict[TableId, dict[bytes, Origin]]) -> None:
    """Remove permits that a block with exactly the same match always beats.

    No other entry can be shadowed: what matches a superset of an entry's packets has shorter
    prefixes, fewer protocols or wider ports, and so a lower rank, unless the two are equal.
    """
    for table, permits in tables.items():
        if table.action is not Action.PERMIT:
            continue
        blocks = tables.get(table._replace(action=Action.BLOCK))
        if blocks:
            for key in permits.keys() & blocks.keys():
                del permits[key]


def merged(one: Classifier, more: Classifier) -> Classifier:
    """Both in one, with the settings of the first; only tables that both have are made anew."""
    tables = {table.id: table for table in one.tables}
    for table in more.tables:
        known = tables.get(table.id)
        tables[table.id] = pack(table.id, _entries(known) | _entries(table)) if known else table
    in_order = sorted(tables.values(), key=lambda table: table.id.order)
    return Classifier(tuple(in_order), one.exemptions, one.drop_unparsable)


def _entries(table: Table) -> dict[bytes, Origin]:
    width = table.id.key_width
    return {
        table.keys[index * width : (index + 1) * width]: table.origin(index)
        for index in range(len(table))
    }
