"""Owns the normal form: which table a filter's matches go into, and with which keys.

A table holds matches that look at the same fields of a packet in the same way, so one look-up of
one key decides all of them. Must not know which fields there are. Invariants:

1. All entries of a table have one rank, and at most one of them matches a packet: they differ
   in the key, which is made of exactly the fields that the table looks at. Of an address that is
   looked for in a list no more than one entry of one length matches; the key is without it.
2. A key is laid out as a kernel concatenation: every field in network byte order, padded to four
   bytes, in the order of ``fields.Place``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ipsecd.compiler.shapes import SHAPES, Encode, Span, length_of
from ipsecd.model.addresses import Family
from ipsecd.model.fields import FIELDS, ME, Field, Header, Listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.precedence import Rank, narrowness, rank
from ipsecd.model.values import Action

_UNUSED = {field.name: SHAPES[field.kind].any for field in FIELDS}
_PLACE = {field.name: number for number, field in enumerate(FIELDS)}


class Part(NamedTuple):
    """A field in the keys of a table: its shape, where it begins, its bytes without padding."""

    field: Field
    shape: Any
    offset: int
    size: int


class TableId(NamedTuple):
    """What a table is: all that its entries have in common.

    ``shapes`` say how it looks at each of ``fields.FIELDS``, in their order. ``selected`` tells
    the hosts that selectors stand for from those that filters name: they change by themselves.
    """

    family: Family
    volatile: bool
    action: Action
    shapes: tuple[Any, ...]
    selected: bool = False

    @classmethod
    def of(cls, family: Family, volatile: bool, action: Action, **shapes: Any) -> TableId:
        """The table that looks at fields, by their names, in `shapes` and at nothing else."""
        return cls(family, volatile, action, tuple((_UNUSED | shapes).values()))

    def reshaped(self, **shapes: Any) -> TableId:
        """The table that looks at some fields in other shapes."""
        return self._replace(shapes=tuple((_UNUSED | self.looks | shapes).values()))

    @property
    def source(self) -> int:
        """A prefix length in bits; 0 is any address, ``ME`` is this host."""
        return length_of(self.shapes[_PLACE["source"]])

    @property
    def destination(self) -> int:
        """The same of the destination."""
        return length_of(self.shapes[_PLACE["destination"]])

    @property
    def listed(self) -> tuple[tuple[Field, Listed], ...]:
        """The addresses that the table looks for in lists, and in which entries of these."""
        return _listed(self.shapes)

    @property
    def protocol(self) -> bool:
        """Whether the table looks at the protocol."""
        return bool(self.shapes[_PLACE["protocol"]])

    @property
    def destination_ports(self) -> Span:
        """How the table looks at the destination port."""
        span: Span = self.shapes[_PLACE["destination_ports"]]
        return span

    @property
    def interface_type(self) -> str:
        """The type of interface, "" for any."""
        return str(self.shapes[_PLACE["interface_type"]])

    @property
    def interface_name(self) -> str:
        """The name of the interface, or with ``*`` the beginning of names; "" for any."""
        return str(self.shapes[_PLACE["interface_name"]])

    @property
    def opening(self) -> bool:
        """Whether only packets that belong to no connection match."""
        return bool(self.shapes[_PLACE["opening"]])

    @property
    def process(self) -> str:
        """The text of the endpoint that names local processes, "" for any sender."""
        return str(self.shapes[_PLACE["process"]])

    @property
    def looks(self) -> dict[str, Any]:
        """The shapes of the fields that the table looks at, by name."""
        return {
            field.name: shape
            for field, shape in zip(FIELDS, self.shapes, strict=True)
            if SHAPES[field.kind].looks(shape)
        }

    @property
    def rank(self) -> Rank:
        """The rank of every entry of the table, but where packets leave (see ``order_at``)."""
        return self._rank_at(None)

    def _rank_at(self, point: Point | None) -> Rank:
        return rank(
            {
                field.name: narrowness(field, SHAPES[field.kind].width(shape, self.family))
                for field, shape in zip(FIELDS, self.shapes, strict=True)
            },
            volatile=self.volatile,
            action=self.action,
            before_translation=point is Point.LEAVING and self.source != ME,
        )

    @property
    def is_of_hosts(self) -> bool:
        """Whether its entries name an address, and no prefix that holds more than one.

        Entries of lists are not the table's.
        """
        if self.listed:
            return False
        prefixes = [side for side in (self.source, self.destination) if side > 0]
        return bool(prefixes) and all(side == self.family.bits for side in prefixes)

    @property
    def points(self) -> frozenset[Point]:
        """Where packets are looked up in the table.

        What names ``me`` has one direction. A permit that does not is looked at once more when a
        packet leaves under this host's address, so that it keeps its rank against ``me``.
        """
        return _points(self)

    @property
    def needs_transport(self) -> bool:
        """Whether a packet without a header of its transport can match nothing here."""
        return any(
            field.location is not None
            and field.location.header is Header.TRANSPORT
            and SHAPES[field.kind].looks(shape)
            for field, shape in zip(FIELDS, self.shapes, strict=True)
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """What keys are made of, first to last."""
        return _parts(self.family, self.shapes)

    @property
    def key_width(self) -> int:
        """The length of a key in bytes; 0 where the table looks at no field."""
        return _width(self.parts)

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts tables: the greatest rank first, and one order among equal ranks."""
        return self.order_at(None)

    def order_at(self, point: Point | None) -> tuple[object, ...]:
        """The same, where packets are looked at `point`."""
        ranked = tuple(-part for part in self._rank_at(point))
        return (ranked, self.family.value, *_places(self.shapes), not self.selected)

    def key_of(self, packet: Packet, host: Host) -> bytes | None:
        """The key under which `packet` would stand in the table, None if it cannot."""
        if packet.family is not self.family or packet.point not in self.points:
            return None
        as_seen = packet
        if packet.point is Point.LEAVING and self.source != ME:
            as_seen = packet.arrived or packet
        values = []
        for field, shape in zip(FIELDS, self.shapes, strict=True):
            value = SHAPES[field.kind].value_of(field, shape, as_seen, host)
            if value is None:
                return None
            values.append(value)
        return key_from(encoders(self.family, self.shapes), values)


@lru_cache(maxsize=4096)
def _points(table: TableId) -> frozenset[Point]:
    points = frozenset(Point)
    if table.destination == ME:
        points = frozenset() if table.source == ME else frozenset({Point.ARRIVING})
    elif table.source == ME:
        points = frozenset({Point.SENDING, Point.LEAVING})
    elif table.action is not Action.PERMIT:
        points = frozenset({Point.ARRIVING, Point.SENDING})
    for field, shape in zip(FIELDS, table.shapes, strict=True):
        if SHAPES[field.kind].looks(shape):
            points &= field.points
    return points


@lru_cache(maxsize=4096)
def _parts(family: Family, shapes: tuple[Any, ...]) -> tuple[Part, ...]:
    in_key = [
        (field, shape)
        for field, shape in zip(FIELDS, shapes, strict=True)
        if SHAPES[field.kind].in_key(shape)
    ]
    offset = 0
    parts = []
    for field, shape in sorted(in_key, key=lambda pair: pair[0].place or 0):
        size = field.bytes_in(family)
        parts.append(Part(field, shape, offset, size))
        offset += size + -size % 4
    return tuple(parts)


@lru_cache(maxsize=4096)
def _listed(shapes: tuple[Any, ...]) -> tuple[tuple[Field, Listed], ...]:
    return tuple(
        (field, shape)
        for field, shape in zip(FIELDS, shapes, strict=True)
        if isinstance(shape, Listed)
    )


@lru_cache(maxsize=4096)
def _places(shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        SHAPES[field.kind].place(shape) for field, shape in zip(FIELDS, shapes, strict=True)
    )


def _width(parts: tuple[Part, ...]) -> int:
    return parts[-1].offset + parts[-1].size + -parts[-1].size % 4 if parts else 0


@lru_cache(maxsize=4096)
def encoders(family: Family, shapes: tuple[Any, ...]) -> tuple[tuple[int, Encode], ...]:
    """For each part of a key the number of its field, and what lays out a value of it."""
    return tuple(
        (FIELDS.index(part.field), SHAPES[part.field.kind].encoder(part.shape, family))
        for part in _parts(family, shapes)
    )


def key_from(encoders: tuple[tuple[int, Encode], ...], values: Sequence[int]) -> bytes:
    """The key of one entry, of a value for each field."""
    return b"".join([encode(values[number]) for number, encode in encoders])
