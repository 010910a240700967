"""Owns what filters ask of the packets of a space, as clauses: sets of numbers in its dimensions.

The rows that the compiler makes of filters are taken, as they are what is enforced. Rows of one
table that come from the same rules are one clause where they differ in one field only, so a rule
with ten thousand addresses is one clause. What a table looks at goes by the rows of ``FIELDS``: a
field that is not known here is refused, and not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipsecd.compiler.shapes import SHAPES
from ipsecd.compiler.tables import TableId
from ipsecd.errors import Refused
from ipsecd.model.addresses import Process
from ipsecd.model.exemptions import Cast, Exemption, Pattern
from ipsecd.model.fields import FIELDS, ME, Listed
from ipsecd.model.icmp import MAX_NUMBER
from ipsecd.model.kinds import LinkName
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packets import Point
from ipsecd.model.values import ICMP, PROTOCOLS_WITH_PORTS, Action, Origin
from ipsecd.proof import space as dims
from ipsecd.proof.space import Space, Words
from ipsecd.proof.spans import Entries, Span, Spans, united

Rows = Mapping[TableId, Mapping[bytes, Origin]]
"""The rows of filters in their tables, each with the rule that it is credited to."""


@dataclass(frozen=True, slots=True)
class Clause:
    """What some rows have in common: the packets that they match, and what becomes of these.

    Of the clauses that match a packet the one whose ``order`` is least decides. ``before`` and
    ``now`` are the rules that have it in the first and the second of two states, None for none.
    """

    order: tuple[Any, ...]
    action: Action
    before: Origin | None
    now: Origin | None
    sets: Mapping[str, Sequence[Span]]


EXEMPT = Origin("", "", "")
"""In the place of a rule for what passes before any filter is looked at."""
_BEFORE_ALL, _RANKED = 0, 1
Encode = Callable[[Space, TableId, Any, Spans | None], Iterator[tuple[str, Sequence[Span]]]]


def words_of(states: Iterable[Rows]) -> Words:
    """The names of links and of local processes that tables look at."""
    tables = [table for rows in states for table in rows]
    return Words(
        frozenset(LinkName(t.interface_name) for t in tables if t.interface_name),
        frozenset(Process(*t.process.split(":", 1)) for t in tables if t.process),
    )


def clauses_of(
    space: Space, before: Rows, now: Rows, exemptions: Iterable[Exemption] = ()
) -> list[Clause]:
    """What two states do with the packets of a space, as clauses of one or of both."""
    clauses = [*_exempt(space, exemptions)]
    for table in {**before, **now}:
        if table.family is space.family and space.point in table.points:
            order = (_RANKED, table.order_at(space.point))
            for (first, second), keys in _by_rules(before.get(table, {}), now.get(table, {})):
                for values in _merged(table, keys):
                    sets = _sets(space, table, values)
                    if all(map(len, sets.values())):
                        clauses.append(Clause(order, table.action, first, second, sets))
    return clauses


def _by_rules(
    before: Mapping[bytes, Origin], now: Mapping[bytes, Origin]
) -> Iterator[tuple[tuple[Origin | None, Origin | None], list[bytes]]]:
    """The keys that come from the same rules in both states."""
    by_rules: dict[tuple[Origin | None, Origin | None], list[bytes]] = {}
    for key in {**before, **now}:
        by_rules.setdefault((before.get(key), now.get(key)), []).append(key)
    yield from by_rules.items()


def _merged(table: TableId, keys: Sequence[bytes]) -> Iterator[dict[str, Spans]]:
    """What keys ask for, each field's numbers as spans; those that differ in one field are one."""
    parts = table.parts
    rows: set[tuple[Spans, ...]] = set()
    for key in keys:
        values = []
        for part in parts:
            first = int.from_bytes(key[part.offset : part.offset + part.size], "big")
            free = 0
            if part.field.name in (dims.SOURCE, dims.DESTINATION):
                free = table.family.bits - part.shape
            values.append(((first, first | (1 << free) - 1),))
        rows.add(tuple(values))
    variety = [len({row[place] for row in rows}) for place in range(len(parts))]
    for place in sorted(range(len(parts)), key=variety.__getitem__, reverse=True):
        alike: dict[tuple[Spans, ...], list[Span]] = {}
        for row in rows:
            alike.setdefault((*row[:place], *row[place + 1 :]), []).extend(row[place])
        rows = {(*r[:place], united(spans), *r[place:]) for r, spans in alike.items()}
    for row in rows:
        yield {part.field.name: spans for part, spans in zip(parts, row, strict=True)}


def _sets(space: Space, table: TableId, values: Mapping[str, Spans]) -> dict[str, Sequence[Span]]:
    """The sets of a clause by dimension; a dimension that is left out is not looked at."""
    sets: dict[str, Sequence[Span]] = {}
    for field, shape in zip(FIELDS, table.shapes, strict=True):
        if not SHAPES[field.kind].looks(shape):
            continue
        if field.name not in ENCODED:
            raise Refused(f"nothing can be proven about filters that look at {field.name}")
        sets |= ENCODED[field.name](space, table, shape, values.get(field.name))
    return sets


# -- Fields ----------------------------------------------------------------------------------------


def _addresses(
    dimension: str, mine: Callable[[Space], Spans | None]
) -> Callable[..., Iterator[tuple[str, Sequence[Span]]]]:
    def encode(
        space: Space, table: TableId, shape: Any, spans: Spans | None
    ) -> Iterator[tuple[str, Sequence[Span]]]:
        if isinstance(shape, Listed):
            members = space.host.lists.get(shape.name, AddressList())
            form = Form(table.family, shape.length)
            yield dimension, Entries(members.entries.get(form, b""), form)
            return
        its_own = mine(space) if shape == ME else spans
        if its_own is not None:
            yield dimension, its_own

    return encode


def _sent_from_here(space: Space) -> Spans | None:
    """The sources with which a packet is from ``me``, where filters from ``me`` are looked at."""
    top = (1 << space.family.bits) - 1
    return ((1, top),) if space.point is Point.SENDING else None


def _protocol(
    space: Space, table: TableId, shape: Any, spans: Spans | None
) -> Iterator[tuple[str, Sequence[Span]]]:
    del shape
    yield dims.HEADER, space.headers_of(spans, whole=table.needs_transport)


def _numbers(dimension: str) -> Encode:
    def encode(
        space: Space, table: TableId, shape: Any, spans: Spans | None
    ) -> Iterator[tuple[str, Sequence[Span]]]:
        del space, table
        yield dimension, (shape.bounds,) if spans is None else spans

    return encode


def _link_dimension(space: Space, table: TableId) -> str:
    """Permits that name no ``me`` look at packets that leave as they arrived."""
    as_arrived = space.point is Point.LEAVING and table.source != ME
    return dims.LINK_IN if as_arrived else dims.LINK


def _link(
    space: Space, table: TableId, shape: Any, spans: Spans | None
) -> Iterator[tuple[str, Sequence[Span]]]:
    del shape, spans
    links = space.links_of(table.interface_type, table.interface_name)
    yield _link_dimension(space, table), links


def _sender(
    space: Space, table: TableId, shape: Any, spans: Spans | None
) -> Iterator[tuple[str, Sequence[Span]]]:
    del table, spans
    yield space.senders_of(shape)


def _opening(
    space: Space, table: TableId, shape: Any, spans: Spans | None
) -> Iterator[tuple[str, Sequence[Span]]]:
    del space, table, shape, spans
    yield dims.OPENING, ((0, 0),)


ENCODED: Mapping[str, Encode] = {
    "source": _addresses(dims.SOURCE, _sent_from_here),
    "destination": _addresses(dims.DESTINATION, Space.received),
    "protocol": _protocol,
    "source_ports": _numbers(dims.SOURCE_PORT),
    "destination_ports": _numbers(dims.DESTINATION_PORT),
    "message": _numbers(dims.MESSAGE),
    "interface_type": _link,
    "interface_name": _link,
    "process": _sender,
    "opening": _opening,
}
"""For every field, by its name, what becomes of a table that looks at it in some shape."""


# -- Exemptions ------------------------------------------------------------------------------------


def _exempt(space: Space, exemptions: Iterable[Exemption]) -> Iterator[Clause]:
    """What passes before any filter, and, where packets leave, what is delivered here instead."""
    order = (_BEFORE_ALL, ())
    if space.point is Point.LEAVING:
        delivered = {dims.DESTINATION: space.received()}
        yield Clause(order, Action.PERMIT, EXEMPT, EXEMPT, delivered)
    for exemption in exemptions:
        for pattern in exemption.patterns:
            here = space.point in pattern.points and pattern.family in (None, space.family)
            # Of packets with some hop limit there are others that are alike, and are not exempt.
            if here and pattern.hop_limit is None:
                sets = _sets_of_pattern(space, pattern)
                yield Clause(order, Action.PERMIT, EXEMPT, EXEMPT, sets)


def _sets_of_pattern(space: Space, pattern: Pattern) -> dict[str, Sequence[Span]]:
    sets: dict[str, Sequence[Span]] = {}
    ports = {dims.SOURCE_PORT: pattern.source_port, dims.DESTINATION_PORT: pattern.destination_port}
    sets |= {name: ((port, port),) for name, port in ports.items() if port is not None}
    if pattern.icmp_types:
        codes = (0, MAX_NUMBER) if pattern.icmp_code is None else (pattern.icmp_code,) * 2
        sets[dims.MESSAGE] = united(
            (number << 8 | codes[0], number << 8 | codes[1]) for number in pattern.icmp_types
        )
    whole = bool(sets)
    protocols = frozenset() if pattern.protocol is None else frozenset({pattern.protocol})
    if not protocols and whole:
        of_icmp = frozenset({ICMP.number(space.family)})
        protocols = of_icmp if pattern.icmp_types else PROTOCOLS_WITH_PORTS
    if protocols:
        sets[dims.HEADER] = space.headers_of(united((n, n) for n in protocols), whole=whole)
    if pattern.cast is not None:
        of_cast = {Cast.MULTICAST: space.multicast, Cast.BROADCAST: space.broadcast}
        sets[dims.DESTINATION] = of_cast[pattern.cast]()
    return sets
