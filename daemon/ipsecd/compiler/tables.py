"""Owns the normal form: which table a filter's matches go into, and with which keys.

A table holds matches that look at the same fields of a packet in the same way, so one look-up of
one key decides all of them. Must not know which fields there are. Invariants:

1. All entries of a table have one rank, and at most one of them matches a packet: they differ
   in the key, which is made of exactly the fields that the table looks at.
2. A key is laid out as a kernel concatenation: every field in network byte order, padded to four
   bytes, in the order of ``fields.Place``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple

from ipsecd.compiler.shapes import SHAPES, Encode, Span
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Address, Family, Keyword, Network, Process
from ipsecd.model.fields import FIELDS, ME, Field, Header, Way
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.precedence import Rank, narrowness, rank
from ipsecd.model.values import Action, Endpoint, Filter, InForce

MAX_PORT_PAIRS = 100_000
"""Combinations of source and destination ports in one filter."""

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
        length: int = self.shapes[_PLACE["source"]]
        return length

    @property
    def destination(self) -> int:
        """The same of the destination."""
        length: int = self.shapes[_PLACE["destination"]]
        return length

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
        """Whether its entries name an address, and no prefix that holds more than one."""
        prefixes = [side for side in (self.source, self.destination) if side > 0]
        return bool(prefixes) and all(side == self.family.bits for side in prefixes)

    @property
    def points(self) -> frozenset[Point]:
        """Where packets are looked up in the table.

        What names ``me`` has one direction. A permit that does not is looked at once more when a
        packet leaves under this host's address, so that it keeps its rank against ``me``.
        """
        points = frozenset(Point)
        if self.destination == ME:
            points = frozenset() if self.source == ME else frozenset({Point.ARRIVING})
        elif self.source == ME:
            points = frozenset({Point.SENDING, Point.LEAVING})
        elif self.action is not Action.PERMIT:
            points = frozenset({Point.ARRIVING, Point.SENDING})
        for field, shape in zip(FIELDS, self.shapes, strict=True):
            if SHAPES[field.kind].looks(shape):
                points &= field.points
        return points

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
        return (ranked, self.family.value, *self.shapes, not self.selected)

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
        return _key(_encoders(self.family, self.shapes), values)


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


def _width(parts: tuple[Part, ...]) -> int:
    return parts[-1].offset + parts[-1].size + -parts[-1].size % 4 if parts else 0


@lru_cache(maxsize=4096)
def _encoders(family: Family, shapes: tuple[Any, ...]) -> tuple[tuple[int, Encode], ...]:
    """For each part of a key the number of its field, and what lays out a value of it."""
    return tuple(
        (FIELDS.index(part.field), SHAPES[part.field.kind].encoder(part.shape, family))
        for part in _parts(family, shapes)
    )


def _key(encoders: tuple[tuple[int, Encode], ...], values: Sequence[int]) -> bytes:
    """The key of one entry, of a value for each field."""
    return b"".join([encode(values[number]) for number, encode in encoders])


class Row(NamedTuple):
    """One entry: the table it belongs to, its key, and where it was written."""

    table: TableId
    key: bytes
    filter_in_force: InForce


def rows_of(in_force: Iterable[InForce]) -> Iterator[Row]:
    """The entries that stand for the filters `in_force`, in no particular order.

    Expands mirroring, IP versions, DNS names, lists of ports and ``ICMP``. A filter from ``me``
    to ``me`` has no entries: such packets never leave the loopback interface. Raises ``Refused``
    for a DNS name that has not been resolved and ``LimitExceeded`` for
    lists of ports on both sides that are too long together.
    """
    likeness_before: object = None
    patterns_by_form: dict[object, tuple[_Pattern, ...]] = {}
    for filter_in_force in in_force:
        flt = filter_in_force.filter
        source, destination = flt.source.address, flt.destination.address
        form = _form(source), _form(destination)
        if None in form:
            yield from (row for row, _ in _expanded(filter_in_force))
            continue
        likeness = _LIKENESS(filter_in_force)
        if likeness != likeness_before:
            likeness_before, patterns_by_form = likeness, {}
        patterns = patterns_by_form.get(form)
        if patterns is None:
            patterns = patterns_by_form[form] = _patterns(filter_in_force)
        source_bits = source.address if isinstance(source, Network) else 0
        destination_bits = destination.address if isinstance(destination, Network) else 0
        for table, width, rest, source_factor, destination_factor in patterns:
            bits = rest + source_bits * source_factor + destination_bits * destination_factor
            yield Row(table, bits.to_bytes(width, "big"), filter_in_force)


class _Pattern(NamedTuple):
    """The entry that each of many filters has that differ only in the bits of their addresses.

    Its key, taken as a number of ``width`` bytes, is ``rest`` plus the address on the left of the
    filter and the one on its right, each times its factor. A factor is 0 where the key does not
    hold that address.
    """

    table: TableId
    width: int
    rest: int
    source_factor: int
    destination_factor: int


_LIKENESS = attrgetter(
    "origin.store",
    *(field.name for field in fields(InForce) if field.name not in {"origin", "filter"}),
    *(
        f"filter.{field.name}"
        for field in fields(Filter)
        if field.compare and field.name not in {"source", "destination"}
    ),
    *(
        f"filter.{end}.{field.name}"
        for end in ("source", "destination")
        for field in fields(Endpoint)
        if field.name != "address"
    ),
)
"""All of a filter in force that decides about its entries, except its addresses."""


def _form(address: Address) -> object:
    """What addresses have in common that differ only in their bits; None for lists of them."""
    if isinstance(address, Network):
        return address.family, address.length
    return address if isinstance(address, Keyword) else None


def _patterns(filter_in_force: InForce) -> tuple[_Pattern, ...]:
    """The patterns of a filter, and of all that are like it and have addresses of its forms."""
    left, right = (
        end.address.address if isinstance(end.address, Network) else 0
        for end in (filter_in_force.filter.source, filter_in_force.filter.destination)
    )
    patterns = []
    for (table, key, _), swapped in _expanded(filter_in_force):
        factors = [_factor(table, name) for name in ("source", "destination")]
        if swapped:
            factors.reverse()
        rest = int.from_bytes(key, "big") - left * factors[0] - right * factors[1]
        patterns.append(_Pattern(table, table.key_width, rest, *factors))
    return tuple(patterns)


def _factor(table: TableId, field: str) -> int:
    """What an address is multiplied by for its place in the keys of a table; 0 if it has none."""
    for part in table.parts:
        if part.field.name == field:
            return 1 << 8 * (table.key_width - part.offset - part.size)
    return 0


def _expanded(filter_in_force: InForce) -> Iterator[tuple[Row, bool]]:
    """The entries of a filter, and for each whether the filter's sides are swapped in it."""
    flt = filter_in_force.filter
    _check_size(flt)
    ways = [(flt.source, flt.destination, False)]
    if flt.mirrored:
        ways.append((flt.destination, flt.source, True))
    for source, destination, swapped in ways:
        for family in sorted(flt.families):
            for row in _one_way(filter_in_force, family, source, destination):
                yield row, swapped


def _check_size(flt: Filter) -> None:
    """Raise ``LimitExceeded`` for lists whose combinations would fill the memory."""
    ports = max(1, len(flt.source.ports)) * max(1, len(flt.destination.ports))
    if ports > MAX_PORT_PAIRS:
        raise LimitExceeded(
            f"the filter's lists of ports make {ports} combinations, more than {MAX_PORT_PAIRS}",
            "name ports on one side only, or use ranges",
        )


_SHAPED = tuple((field.wanted, SHAPES[field.kind].shaped) for field in FIELDS)


def _one_way(
    filter_in_force: InForce, family: Family, source: Endpoint, destination: Endpoint
) -> Iterator[Row]:
    if destination.address is Keyword.ME and (
        source.address is Keyword.ME or isinstance(source.address, Process)
    ):
        return
    way = Way(filter_in_force, family, source, destination)
    volatile, action = filter_in_force.origin.volatile, filter_in_force.action
    choices = [[shaped(asked) for asked in wanted(way)] for wanted, shaped in _SHAPED]
    for chosen in product(*choices):
        shapes, values = zip(*chosen, strict=True)
        table, encoders = _table(family, volatile, action, shapes)
        yield Row(table, _key(encoders, values), filter_in_force)


@lru_cache(maxsize=4096)
def _table(
    family: Family, volatile: bool, action: Action, shapes: tuple[Any, ...]
) -> tuple[TableId, tuple[tuple[int, Encode], ...]]:
    # Cached because a list of a million addresses asks for the same few tables a million times.
    return TableId(family, volatile, action, shapes), _encoders(family, shapes)
