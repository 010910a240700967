"""Owns where the fields of a table lie in what the programs read: keys, masks, ranges of ports.

Goes over the rows of ``model.fields``; the layout is that of ``abi``. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from ipsecd.backend.xdp import abi
from ipsecd.compiler.shapes import ANY, SHAPES
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.fields import BY_NAME, Kind, Place

MEMBERS = {
    Place.SOURCE: "saddr",
    Place.DESTINATION: "daddr",
    Place.SOURCE_PORT: "sport",
    Place.DESTINATION_PORT: "dport",
    Place.PROTOCOL: "protocol",
}
"""The member of a key (``abi.KEY_MEMBERS``) that has the fields of each place."""

_PLACES = {member: place for place, member in MEMBERS.items()}


class Fixed(NamedTuple):
    """The fields besides one address that all entries of a list of prefixes share; b"" for any."""

    protocol: bytes
    source_port: bytes
    destination_port: bytes


def _packed(family: Family, members: dict[Place, bytes]) -> bytes:
    layout = abi.KEY4 if family is Family.IPV4 else abi.KEY6
    return layout.pack(*(members.get(_PLACES[name], b"") for name in abi.KEY_MEMBERS))


def _values(table: TableId, key: bytes) -> dict[Place, bytes]:
    """What a key of `table` holds, by place."""
    return {
        part.field.place: key[part.offset : part.offset + part.size]
        for part in table.parts
        if part.field.place is not None
    }


def packet_key(table: TableId, key: bytes) -> bytes:
    """A key of `table` in the layout in which the programs have those of packets."""
    return _packed(table.family, _values(table, key))


def mask_of(table: TableId) -> bytes:
    """Which bits of a packet's key count in `table`."""
    masks = {
        part.field.place: SHAPES[part.field.kind].mask(part.shape, part.field, table.family)
        for part in table.parts
        if part.field.place is not None
    }
    return _packed(table.family, masks)


def fixed_of(table: TableId, key: bytes) -> Fixed:
    """What a key of `table` holds besides addresses."""
    values = _values(table, key)
    return Fixed(
        values.get(Place.PROTOCOL, b""),
        values.get(Place.SOURCE_PORT, b""),
        values.get(Place.DESTINATION_PORT, b""),
    )


def port_bounds(table: TableId, fixed: Fixed | None = None) -> list[int]:
    """The first and last source port and the first and last destination port of a step.

    `fixed` has the ports of steps whose entries do not have them.
    """
    bounds = dict.fromkeys((Place.SOURCE_PORT, Place.DESTINATION_PORT), ANY.bounds)
    for name, shape in table.looks.items():
        field = BY_NAME[name]
        if field.kind is Kind.RANGE and field.place is not None:
            bounds[field.place] = shape.bounds
    if fixed:
        for place, port in (
            (Place.SOURCE_PORT, fixed.source_port),
            (Place.DESTINATION_PORT, fixed.destination_port),
        ):
            if port:
                bounds[place] = (int.from_bytes(port, "big"),) * 2
    return [number for pair in bounds.values() for number in pair]
