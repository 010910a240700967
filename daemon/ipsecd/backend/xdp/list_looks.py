"""Owns which tables look for an address in the ranges of a list, and what else these ask; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipsecd.backend.xdp.list_ranges import ListKey
from ipsecd.backend.xdp.slots import SharedFields, shared_fields
from ipsecd.compiler.classifier import HasTableId, Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.fields import Listed
from ipsecd.model.values import Origin

MOST_LOOKS = 8
"""The most steps of a table, for each protocol and pair of ports one; a table with more keys is
written out."""


@dataclass(frozen=True)
class LeftTable(Table):
    """A table whose packets programs find in its rank, and leave to nftables to judge and count."""


class ListLook(NamedTuple):
    """One step: the fields that it asks for beside the address, the rule, and the ranges."""

    shared: SharedFields
    rule: int
    ranges: ListKey


def is_in_ranges(table: HasTableId) -> bool:
    """Whether programs look for what the table matches in the ranges of a list.

    So they do if all it asks of addresses is one in a list, and perhaps that the other is ``me``.
    """
    if not isinstance(table, Table) or len(table.id.listed) != 1 or len(table) > MOST_LOOKS:
        return False
    ((field, _),) = table.id.listed
    other = table.id.source if field.name == "destination" else table.id.destination
    return other <= 0


def of_any_length(table: TableId) -> TableId:
    """What is equal for all tables that look into the same list in the same way."""
    ((field, listed),) = table.listed
    return table.reshaped(**{field.name: Listed(listed.name, table.family.bits)})


def looks(tables: Sequence[Table], rules: Mapping[Origin, int]) -> list[ListLook]:
    """The steps of tables that look into the same list in the same way."""
    lengths: dict[tuple[SharedFields, int], set[int]] = {}
    for table in tables:
        ((_, listed),) = table.id.listed
        width = table.id.key_width
        for index in range(len(table)):
            key = table.keys[index * width : (index + 1) * width]
            of_key = (shared_fields(table.id, key), rules[table.origin(index)])
            lengths.setdefault(of_key, set()).add(listed.length)
    family = tables[0].id.family
    ((_, listed),) = tables[0].id.listed
    return [
        ListLook(shared, rule, ListKey(listed.name, family, tuple(sorted(of_key, reverse=True))))
        for (shared, rule), of_key in sorted(lengths.items())
    ]


def wanted(groups: Iterable[Sequence[Table]], rules: Mapping[Origin, int]) -> list[ListKey]:
    """All ranges of lists that groups of tables look into, each once."""
    of_groups = (looks(group, rules) for group in groups if group and is_in_ranges(group[0]))
    return list(dict.fromkeys(look.ranges for all_of in of_groups for look in all_of))
