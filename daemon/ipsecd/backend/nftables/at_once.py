"""Owns the first rules of a place, which decide about most packets before anything else is asked.

A packet that no table has, and whose headers can be read, passes whatever else is true of it:
whether it is exempt, by which link it comes, and whose address it is for need not be found out.
Where one table is all that is looked up, what it has is dropped by one rule more. Must not know
chains. Invariants:

1. These rules find nothing that the others would not find: what they do not decide is judged as if
   they were not there.
2. They look into no set whose elements count, and count only what they drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.exempt import beginnings
from ipsecd.backend.nftables.keys import entry_of, from_packet, has_key, key_of
from ipsecd.backend.nftables.lists import ListForm, ListSets
from ipsecd.backend.nftables.looks import KernelTable, is_block, is_of_links, is_of_me, is_permit
from ipsecd.compiler.shapes import SHAPES
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Pattern
from ipsecd.model.fields import BY_NAME, Field, Kind
from ipsecd.model.values import IPV6_EXTENSION_HEADERS

MOST_TABLES = 4
"""A packet that some table has pays for these look-ups without any gain, so they are few."""


def of_family(family: Family) -> bytes:
    """Go on only with packets of an IP version."""
    return ex.meta(ex.META_NFPROTO) + ex.compare(ex.EQ, bytes((ex.NFPROTO[family],)))


def in_no_table(tables: Sequence[KernelTable], family: Family, lists: ListSets) -> bytes:
    """Go on only with what can be read and is in none of the `tables`; b"" if that costs much."""
    if len(tables) > MOST_TABLES:
        return b""
    conditions = [_not_in(table, lists) for table in tables]
    if not all(conditions):
        return b""
    # Who has read the destination port has read the four bytes that have to be readable.
    read = any(map(_reads_destination_port, tables))
    return b"".join([of_family(family), *conditions, b"" if read else ex.has_transport()])


def _not_in(table: KernelTable, lists: ListSets) -> bytes:
    """Go on only with packets that cannot be in the table; b"" if that is not found so simply.

    Of several conditions of a table one that does not hold is enough.
    """
    family = table.id.family
    for field, listed in table.id.listed:
        entries = lists[ListForm(listed.name, family, listed.length)].set_name
        return entry_of(field, listed, family, from_packet) + ex.in_set(entries, inverted=True)
    for field, (first, last) in _ranges(table.id):
        bounds = first.to_bytes(2, "big"), last.to_bytes(2, "big")
        return from_packet(field, family, 0) + ex.within(*bounds, inverted=True)
    if not has_key(table.id) or _counts_by_element(table):
        return b""
    key = key_of(table.id, from_packet, lists)
    if 0 < len(table.only_key) <= ex.MOST_COMPARED:
        return key + ex.compare(ex.NEQ, table.only_key)
    return key + ex.in_set(table.uncounted, inverted=True)


def _ranges(table: TableId) -> list[tuple[Field, tuple[int, int]]]:
    """The fields that a rule compares with bounds, because they are not in the table's keys."""
    fields = ((BY_NAME[name], shape) for name, shape in table.looks.items())
    return [
        (field, shape.bounds)
        for field, shape in fields
        if field.kind is Kind.RANGE and not SHAPES[field.kind].in_key(shape)
    ]


def _reads_destination_port(table: KernelTable) -> bool:
    """Whether what ``_not_in`` asks is not answered without the destination port."""
    if table.id.listed or _ranges(table.id):
        return False
    return any(part.field.name == "destination_ports" for part in table.id.parts)


def _counts_by_element(table: KernelTable) -> bool:
    """Whether the elements of its only set count when they are looked up."""
    return not (table.counter or table.mapped or (table.id.volatile and is_permit(table)))


def found_on_arrival(
    table: KernelTable, patterns: Iterable[Pattern], lists: ListSets
) -> bytes | None:
    """Go on, and count, only if an arriving packet is one that the table blocks for certain.

    For packets that ``in_no_table`` has not let pass, with this table alone. None if something has
    to be asked that takes longer than finding the packet once more: who exempts it, for example.
    """
    family = table.id.family
    counted = table.counter or table.mapped
    conditions = table.id.listed or _ranges(table.id) or is_of_links(table) or table.id.opening
    if not is_block(table) or not counted or conditions:
        return None
    exempt = [each for pattern in patterns for each in beginnings(pattern, family)]
    if None in exempt:
        return None
    found = of_family(family) + ex.payload(ex.TRANSPORT_HEADER, 0, 4)
    found += b"".join(ex.compare(ex.NEQ, each) for each in exempt if each is not None)
    found += _is_plain(family)
    if is_of_me(table):
        found += ex.address_type(ex.FIB_DADDR) + ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))
    if table.mapped:
        return found + key_of(table.id, from_packet, lists) + ex.counted_in_map(table.set_name)
    return found + ex.counted_by(table.counter)


def _is_plain(family: Family) -> bytes:
    """Go on only if the packet is no later fragment, of which old kernels read ports all the same.

    In IPv6 that takes looking for a header, so nothing that has extension headers is plain.
    """
    if family is Family.IPV4:
        offset = ex.payload(ex.NETWORK_HEADER, 6, 2) + ex.masked(b"\x1f\xff")
        return offset + ex.compare(ex.EQ, b"\0\0")
    following = ex.payload(ex.NETWORK_HEADER, 6, 1)
    return following + b"".join(
        ex.compare(ex.NEQ, bytes((number,))) for number in sorted(IPV6_EXTENSION_HEADERS)
    )
