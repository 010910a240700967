"""Owns where the programs find the fields of a table: in keys, masks and ranges of ports.

It goes over the rows of ``model.fields``; the layout is that of ``abi``. Pure.
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
"""For each place the member of a key (``abi.KEY_MEMBERS``) that holds its fields."""

_PLACES = {member: place for place, member in MEMBERS.items()}


class SharedFields(NamedTuple):
    """The fields that all entries of a list of prefixes share, beside addresses; b"" for any."""

    protocol: bytes
    source_port: bytes
    destination_port: bytes


def _packed(family: Family, members: dict[Place, bytes]) -> bytes:
    layout = abi.KEY4 if family is Family.IPV4 else abi.KEY6
    return layout.pack(*(members.get(_PLACES[name], b"") for name in abi.KEY_MEMBERS))


def _values(table: TableId, key: bytes) -> dict[Place, bytes]:
    """The fields that a key of `table` holds, by place."""
    return {
        part.field.place: key[part.offset : part.offset + part.size]
        for part in table.parts
        if part.field.place is not None
    }


def packet_key(table: TableId, key: bytes) -> bytes:
    """A key of `table` in the layout in which the programs build the keys of packets."""
    return _packed(table.family, _values(table, key))


def mask_of(table: TableId) -> bytes:
    """Which bits of a packet's key count in `table`."""
    masks = {
        part.field.place: SHAPES[part.field.kind].mask(part.shape, part.field, table.family)
        for part in table.parts
        if part.field.place is not None
    }
    return _packed(table.family, masks)


def shared_fields(table: TableId, key: bytes) -> SharedFields:
    """The fields of a key of `table` other than addresses."""
    values = _values(table, key)
    return SharedFields(
        values.get(Place.PROTOCOL, b""),
        values.get(Place.SOURCE_PORT, b""),
        values.get(Place.DESTINATION_PORT, b""),
    )


def port_bounds(table: TableId, shared: SharedFields | None = None) -> list[int]:
    """The first and last source port and the first and last destination port of a step.

    `shared` has the ports of a step whose entries do not have them.
    """
    bounds = dict.fromkeys((Place.SOURCE_PORT, Place.DESTINATION_PORT), ANY.bounds)
    for name, shape in table.looks.items():
        field = BY_NAME[name]
        if field.kind is Kind.RANGE and field.place is not None:
            bounds[field.place] = shape.bounds
    if shared:
        for place, port in (
            (Place.SOURCE_PORT, shared.source_port),
            (Place.DESTINATION_PORT, shared.destination_port),
        ):
            if port:
                bounds[place] = (int.from_bytes(port, "big"),) * 2
    return [number for pair in bounds.values() for number in pair]
