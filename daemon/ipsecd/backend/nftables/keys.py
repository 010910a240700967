"""Owns laying the key of a table into registers, from a packet or from connection tracking."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.lists import ListForm, ListSet, counted_forms
from ipsecd.compiler.shapes import SHAPES
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.fields import BY_NAME, Field, Header, Kind, Listed, Place

Loader = Callable[[Field, Family, int], bytes]

_HEADERS = {Header.NETWORK: ex.NETWORK_HEADER, Header.TRANSPORT: ex.TRANSPORT_HEADER}
_TRACKED = {
    Place.SOURCE: {Family.IPV4: ex.CT_SRC_IP, Family.IPV6: ex.CT_SRC_IP6},
    Place.DESTINATION: {Family.IPV4: ex.CT_DST_IP, Family.IPV6: ex.CT_DST_IP6},
    Place.SOURCE_PORT: dict.fromkeys(Family, ex.CT_PROTO_SRC),
    Place.DESTINATION_PORT: dict.fromkeys(Family, ex.CT_PROTO_DST),
}
"""The keys of connection tracking for the fields that lie in a header, by their place in keys."""


def has_key(table: TableId) -> bool:
    """Whether the set of the table has to be asked; else it holds every packet that comes so far.

    What dynamic rules have entered ends by itself.
    """
    return table.volatile or bool(table.parts)


def key_of(table: TableId, load: Loader, lists: Mapping[ListForm, ListSet]) -> bytes:
    """Load the table's key into registers, after checking the fields that are not in the key.

    `lists` are the sets of the entries of lists; a rule looks into them before its own set, whose
    elements count.
    """
    family = table.family
    loaded: list[bytes] = []
    for field, listed in table.listed:
        loaded.append(entry_of(field, listed, family, load))
        loaded.append(ex.in_set(lists[ListForm(listed.name, family, listed.length)].set_name))
    for name, shape in table.looks.items():
        field = BY_NAME[name]
        if field.kind is Kind.RANGE and not SHAPES[field.kind].in_key(shape):
            bounds = (number.to_bytes(2, "big") for number in shape.bounds)
            loaded.append(load(field, family, 0) + ex.within(*bounds))
    for part in table.parts:
        register = part.offset // 4
        loaded.append(load(part.field, family, register))
        if mask := _partial(SHAPES[part.field.kind].mask(part.shape, part.field, family)):
            loaded.append(ex.masked(mask, register))
    if has_key(table) and not table.parts:
        loaded.append(ex.meta(ex.META_NFPROTO))
    return b"".join(loaded)


def entry_of(field: Field, listed: Listed, family: Family, load: Loader) -> bytes:
    """Load the entry of a list that an address would be in."""
    mask = _partial(SHAPES[field.kind].mask(listed, field, family))
    return load(field, family, 0) + (ex.masked(mask) if mask else b"")


def counting_of(
    table: TableId, load: Loader, lists: Mapping[ListForm, ListSet]
) -> list[tuple[bytes, bool]]:
    """What counts the entries of lists by which a packet is in a table, a rule each.

    Each comes with whether it is about the last address that the table looks for in lists: then a
    packet that it counts need not meet the others. What several lists have that filters of one
    rule name alike counts for the first of them by name that counts.
    """
    rules: list[tuple[bytes, bool]] = []
    for field, listed in table.listed:
        form = ListForm(listed.name, table.family, listed.length)
        entry = entry_of(field, listed, table.family, load)
        is_last = field is table.listed[-1][0]
        before = b""
        for counted in counted_forms(form, lists):
            name = lists[counted].set_name
            rules.append((before + entry + ex.in_set(name), is_last))
            if not is_last:
                # What is not found there is not counted there.
                before += entry + ex.in_set(name, inverted=True)
    return rules


def _partial(mask: bytes) -> bytes:
    """The mask, b"" if it holds all bits."""
    return mask if mask.strip(b"\xff") else b""


def from_packet(field: Field, family: Family, register: int) -> bytes:
    """Load a field from the packet as it is now."""
    location = field.location
    if location is None:
        return ex.meta(ex.META_L4PROTO, register)
    size = field.bytes_in(family)
    return ex.payload(_HEADERS[location.header], location.offset(family), size, register)


def as_arrived(direction: int) -> Loader:
    """A loader of fields as connection tracking saw them when the packet arrived."""

    def load(field: Field, family: Family, register: int) -> bytes:
        if field.location is None or field.place is None:
            return from_packet(field, family, register)
        return ex.tracked(_TRACKED[field.place][family], register, direction)

    return load
