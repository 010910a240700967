"""Owns writing entries of lists into the keys of the tables that look into them; pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from itertools import product

from ipsecd.compiler.classifier import Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.lists import AddressList, Form


def keys_with_entries(table: Table, lists: Mapping[str, AddressList]) -> int:
    """How many keys a table would have if the entries of `lists` stood in them."""
    count = len(table)
    for packed in _entries_by_field(table.id, lists).values():
        count *= len(packed) // (table.id.family.bits // 8)
    return count


def with_entries(table: Table, lists: Mapping[str, AddressList]) -> Table | None:
    """A table that matches the same and looks into no list; None if there are no entries."""
    table_id = table.id
    plain = table_id.reshaped(**{field.name: listed.length for field, listed in table_id.listed})
    entries = _entries_by_field(table_id, lists)
    if not all(entries.values()):
        return None
    if (
        plain.key_width == table_id.family.bits // 8
        and not table_id.key_width
        and len(entries) == 1
    ):
        # All that the keys hold is the address: they are the list as it is.
        (packed,) = entries.values()
        return Table(plain, packed, table.origins)
    pairs = sorted(_pairs(table, plain, entries))
    writers = array("I", (writer for _, writer in pairs)) if table.writers else array("I")
    return Table(plain, b"".join(key for key, _ in pairs), table.origins, writers)


def _entries_by_field(table: TableId, lists: Mapping[str, AddressList]) -> dict[str, bytes]:
    """The packed entries that the table looks for in each field."""
    entries = {}
    for field, listed in table.listed:
        form = Form(table.family, listed.length)
        members = lists.get(listed.name)
        entries[field.name] = members.entries.get(form, b"") if members else b""
    return entries


def _pairs(
    table: Table, plain: TableId, entries: Mapping[str, bytes]
) -> Iterator[tuple[bytes, int]]:
    """The keys of the plain table, each with the number of the rule that wrote it."""
    size = plain.family.bits // 8
    own = {part.field.name: part for part in table.id.parts}
    lists = {
        name: [packed[at : at + size] for at in range(0, len(packed), size)]
        for name, packed in entries.items()
    }
    width = table.id.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        choices = []
        for part in plain.parts:
            name, padded = part.field.name, part.size + -part.size % 4
            if name in own:
                offset = own[name].offset
                choices.append([key[offset : offset + padded]])
            else:
                choices.append(lists[name])
        writer = table.writers[index] if table.writers else 0
        # The one entry of the length 0 is no part of keys: it covers every address.
        for chosen in product(*choices):
            yield b"".join(chosen), writer
