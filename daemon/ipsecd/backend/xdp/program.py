"""Owns the translation of tables into steps; pure: the same tables, the same lines.

Invariants:

1. The steps of a point and IP version are in the order of rank, and the first that finds an
   entry decides. Inside a run of tables of equal action the order has no meaning, and only
   there are prefixes of different lengths put into one step.
2. A step never finds an entry whose table has a condition that the step does not have.
3. What leaves is judged by what it leaves as: tables that would have to know the addresses
   that a packet arrived with are not in the steps of that point (see ``needs_translation``).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.images import Image, as_lists, key_of, place
from ipsecd.backend.xdp.lines import RangeLines
from ipsecd.backend.xdp.slots import Fixed, mask_of, port_bounds
from ipsecd.compiler.classifier import Classifier, HasTableId, Table, in_order
from ipsecd.compiler.tables import TableId
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Cast, Pattern, exemption
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Origin

POINTS = (Point.ARRIVING, Point.SENDING, Point.LEAVING)
FAMILY_ORDER = (Family.IPV4, Family.IPV6)

_INTERFACES = {"": abi.INTERFACE_ANY, "lan": abi.INTERFACE_LAN, "dialup": abi.INTERFACE_DIALUP}
_CASTS = {None: 0, Cast.MULTICAST: abi.CAST_MULTICAST, Cast.BROADCAST: abi.CAST_BROADCAST}


class Dynamic(NamedTuple):
    """A table of dynamic rules, by its number in the map of dynamic entries."""

    id: TableId
    number: int


def needs_translation(tables: Iterable[HasTableId], family: Family) -> bool:
    """Whether a permit that names no ``me`` outranks a block of what leaves as this host's.

    It keeps its rank only if the addresses before source translation are known.
    """
    leaving = [
        table.id
        for table in in_order(tables, Point.LEAVING)
        if table.id.family is family and Point.LEAVING in table.id.points
    ]
    blocks = [n for n, table in enumerate(leaving) if table.action is Action.BLOCK]
    return bool(blocks) and any(table.source != ME for table in leaving[: blocks[-1]])


def groups(
    tables: Sequence[HasTableId], point: Point, family: Family
) -> list[tuple[HasTableId, ...]]:
    """The tables of one point and IP version, those that share a step together."""
    wanted = [
        table
        for table in in_order(tables, point)
        if table.id.family is family
        and point in table.id.points
        and (point is not Point.LEAVING or table.id.source == ME)
    ]
    found: list[tuple[HasTableId, ...]] = []
    for _, run in itertools.groupby(wanted, lambda table: table.id.action):
        shared: dict[TableId, list[HasTableId]] = {}
        for table in run:
            shared.setdefault(_shares(table), []).append(table)
        found += [tuple(group) for group in shared.values()]
    return found


def _shares(table: HasTableId) -> TableId:
    """What tables have in common whose prefixes can be put into one list."""
    one = table.id
    if isinstance(table, Table) and one.source > 0 >= one.destination:
        return one.reshaped(source=1)
    if isinstance(table, Table) and one.destination > 0 >= one.source:
        return one.reshaped(destination=1)
    return one


def count_steps(classifier: Classifier) -> int:
    """The most steps that a packet can take through the policy."""
    rules = dict.fromkeys(classifier.origins, 0)
    most = 0
    for point in POINTS:
        for family in FAMILY_ORDER:
            found = 0
            for group in groups(classifier.tables, point, family):
                lists = as_lists([t for t in group if isinstance(t, Table)], rules)
                found += len(group) if lists is None else len(lists)
            most = max(most, found)
    return most


def steps(group: tuple[HasTableId, ...], image: Image, *, alone: bool) -> list[bytes]:
    """The steps of a group, whose entries are in `image`.

    Who judges `alone` counts whatever matches; else what passes is counted by who judges next.
    """
    one = group[0].id
    conditions = abi.BLOCKS if one.action is Action.BLOCK else 0
    conditions |= abi.COUNTS if alone or one.action is Action.BLOCK else 0
    conditions |= abi.IF_SOURCE_ME if one.source == ME else 0
    conditions |= abi.IF_DESTINATION_ME if one.destination == ME else 0
    conditions |= abi.IF_PORTS if one.needs_transport else 0
    interface = _INTERFACES[one.interface_type]
    ports = port_bounds(one)
    first = group[0]
    if isinstance(first, Dynamic):
        number = first.number
        return [
            abi.STEP.pack(
                abi.STEP_DYNAMIC, conditions, interface, 0, 0, number, 0, *ports, mask_of(one)
            )
        ]
    placed = image.places[key_of(group)]
    hashed = [
        abi.STEP.pack(
            abi.STEP_HASH,
            conditions,
            interface,
            placed.slot,
            0,
            first_line,
            lines,
            *ports,
            mask_of(table_id),
        )
        for table_id, first_line, lines in placed.hashes
    ]
    return hashed + [
        _range_step(one, conditions, interface, placed.slot, fixed, found, at)
        for fixed, found, at in placed.ranges
    ]


def _range_step(
    one: TableId,
    conditions: int,
    interface: int,
    slot: int,
    fixed: Fixed,
    found: RangeLines,
    at: int,
) -> bytes:
    if fixed.protocol:
        conditions |= abi.IF_PROTOCOL
    if one.destination > 0:
        conditions |= abi.OF_DESTINATION
    protocol = fixed.protocol[0] if fixed.protocol else 0
    return abi.STEP.pack(
        abi.STEP_RANGES,
        conditions,
        interface,
        slot,
        found.rule,
        0,
        0,
        *port_bounds(one, fixed),
        found.describe(at, protocol),
    )


def state_lines(
    classifier: Classifier,
    dynamic: Sequence[Dynamic],
    image: Image,
    rules: Mapping[Origin, int],
    *,
    points: frozenset[Point],
    alone: bool,
    max_steps: int,
    first_host: int,
    generation: int,
) -> bytes:
    """The lines of the state map; places in `image` what is not there yet (`alone`: see ``steps``).

    Raises ``LimitExceeded`` for more than `max_steps` steps of one point and IP version.
    """
    tables: list[HasTableId] = [*classifier.tables, *dynamic]
    blocking = any(table.id.action is Action.BLOCK for table in tables)
    patterns = [pattern for name in classifier.exemptions for pattern in exemption(name).patterns]
    heads: list[bytes] = []
    body: list[bytes] = []
    for point in POINTS:
        # Who judges after the programs may be able to read what they cannot.
        drop = alone and blocking and classifier.drop_unparsable and point is not Point.LEAVING
        for family in FAMILY_ORDER:
            first = abi.FIRST_STEP_LINE + len(body)
            found = []
            for group in groups(tables, point, family) if point in points else ():
                place(image, group, rules)
                found += steps(group, image, alone=alone)
            if len(found) > max_steps:
                raise LimitExceeded(
                    f"the policy needs {len(found)} look-ups for one packet, and the XDP backend "
                    f"can do {max_steps} on this kernel",
                    "use fewer different port ranges and address lengths",
                )
            body += found
            exempt = _patterns(patterns, point, family)
            first_pattern = abi.FIRST_STEP_LINE + len(body)
            body += exempt
            heads.append(
                abi.HEAD.pack(
                    first,
                    len(found),
                    first_pattern,
                    len(exempt),
                    int(drop and point in points),
                    first_host,
                    generation,
                    int(not alone and point is Point.ARRIVING),
                )
            )
    mark = abi.MARK.pack(bytes.fromhex(classifier.digest))
    return b"".join([*heads, mark, *body])


def _patterns(patterns: Iterable[Pattern], point: Point, family: Family) -> list[bytes]:
    """What is exempt at one point."""
    return [
        _pattern(pattern)
        for pattern in patterns
        if point in pattern.points and pattern.family in (None, family)
    ]


def _pattern(pattern: Pattern) -> bytes:
    fields = 0
    for given, bit in (
        (pattern.protocol, abi.HAS_PROTOCOL),
        (pattern.source_port, abi.HAS_SPORT),
        (pattern.destination_port, abi.HAS_DPORT),
        (pattern.hop_limit, abi.HAS_HOP_LIMIT),
        (pattern.icmp_types or None, abi.HAS_ICMP_TYPES),
    ):
        fields |= bit if given is not None else 0
    types = sorted(pattern.icmp_types)
    types += types[-1:] * (4 - len(types))
    return abi.PATTERN.pack(
        fields,
        pattern.protocol or 0,
        pattern.hop_limit or 0,
        _CASTS[pattern.cast],
        struct.unpack("=H", struct.pack(">H", pattern.source_port or 0))[0],
        struct.unpack("=H", struct.pack(">H", pattern.destination_port or 0))[0],
        bytes(types),
    )
