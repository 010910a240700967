"""Owns writing filters out into entries of tables; must not know which fields there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import lru_cache
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple

from ipsecd.compiler.shapes import SHAPES, Encode
from ipsecd.compiler.tables import TableId, encoders, key_from
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Address, Family, Keyword, Network, Process
from ipsecd.model.fields import FIELDS, Way
from ipsecd.model.values import Action, Endpoint, Filter, InForce

MAX_PORT_PAIRS = 100_000
"""Combinations of source and destination ports in one filter."""


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
            patterns = patterns_by_form[form] = _remembered(likeness, form, filter_in_force)
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


_REMEMBERED: dict[tuple[object, object], tuple[_Pattern, ...]] = {}
"""Patterns of filters that came alone: of one who is banned after the other, ban by ban."""
_MOST_REMEMBERED, _MOST_PATTERNS = 1024, 64


def _remembered(likeness: object, form: object, filter_in_force: InForce) -> tuple[_Pattern, ...]:
    """The patterns of a filter, which are made once for all that are like it; in any thread."""
    patterns = _REMEMBERED.get((likeness, form))
    if patterns is None:
        patterns = _patterns(filter_in_force)
        # Long lists of ports make many patterns, and would be kept for nothing.
        if len(patterns) <= _MOST_PATTERNS:
            if len(_REMEMBERED) >= _MOST_REMEMBERED:
                _REMEMBERED.clear()
            _REMEMBERED[likeness, form] = patterns
    return patterns


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
        table, layout = _table(family, volatile, action, shapes)
        yield Row(table, key_from(layout, values), filter_in_force)


@lru_cache(maxsize=4096)
def _table(
    family: Family, volatile: bool, action: Action, shapes: tuple[Any, ...]
) -> tuple[TableId, tuple[tuple[int, Encode], ...]]:
    # Cached because a list of a million addresses asks for the same few tables a million times.
    return TableId(family, volatile, action, shapes), encoders(family, shapes)
