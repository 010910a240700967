"""Owns the translation of tables into steps; pure: the same tables give the same lines.

Invariants:

1. The steps of a point and IP version are in the order of rank, and the first step that finds an
   entry decides, but for audits, which count. Inside a run of tables of equal action the order has
   no meaning; only there are prefixes of different lengths put into one step.
2. A step has every condition of the tables whose entries it can find.
3. Leaving packets are judged by the addresses that they leave with. Tables that need the addresses
   with which a packet arrived have no steps at that point (see ``needs_translation``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.images import (
    GroupKey,
    Image,
    group_key,
    place_list,
    place_tables,
    prefix_lists,
)
from ipsecd.backend.xdp.lines import RangeLines
from ipsecd.backend.xdp.list_looks import LeftTable, is_in_ranges, looks, of_any_length
from ipsecd.backend.xdp.list_ranges import ListKey
from ipsecd.backend.xdp.patterns import exempt_words, pattern_line, patterns_at
from ipsecd.backend.xdp.slots import SharedFields, mask_of, port_bounds
from ipsecd.compiler.classifier import Classifier, HasTableId, Table, in_order
from ipsecd.compiler.tables import TableId
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import JOINED, Family, written_name
from ipsecd.model.exemptions import exemption
from ipsecd.model.fields import ME
from ipsecd.model.lists import NO_ENTRIES, AddressList
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Origin
from ipsecd.quoting import quote

POINTS = (Point.ARRIVING, Point.SENDING, Point.LEAVING)
FAMILY_ORDER = (Family.IPV4, Family.IPV6)

_INTERFACES = {"": abi.INTERFACE_ANY, "lan": abi.INTERFACE_LAN, "dialup": abi.INTERFACE_DIALUP}


class DynamicTable(NamedTuple):
    """A table of dynamic rules, and its number in the map of dynamic entries."""

    id: TableId
    number: int


def audits(table: HasTableId) -> bool:
    """Whether programs count by the table which of the packets that they drop it is the first for.

    What other audits may match they leave to nftables, which counts what it is given.
    """
    return _may_stop(table.id, Action.AUDIT) and _knows_lists(table) and not _is_left(table)


def drops(table: HasTableId) -> bool:
    """Whether programs drop what matches the table.

    They do not know connections, nor the names of links, nor lists of which they have neither
    ranges nor what is written out. What such a table may match they leave to nftables, as they
    leave it what a permit matches.
    """
    return _may_stop(table.id, Action.BLOCK) and _knows_lists(table) and not _is_left(table)


def _may_stop(table: TableId, *actions: Action) -> bool:
    """Whether it has one of the `actions`, and programs know what it asks for, or its lists do."""
    return table.action in actions and not table.opening and not table.interface_name


def _is_left(table: HasTableId) -> bool:
    return isinstance(table, LeftTable)


def _knows_lists(table: HasTableId) -> bool:
    return not table.id.listed or is_in_ranges(table)


def unknown_to_programs(tables: Iterable[HasTableId]) -> str:
    """What some table asks of a packet that programs do not know, in words; "" if there is none."""
    for table in tables:
        if table.id.process:
            return f"who sends a packet: {quote(table.id.process)}"
        if table.id.interface_name:
            return f"the names of interfaces: {quote(table.id.interface_name)}"
        if table.id.opening:
            return "which packets open a connection"
        if table.id.listed and not is_in_ranges(table):
            joined = table.id.listed[0][1].name.split(JOINED)
            names = [f"@{written_name(name)}" for name in joined]
            return f"the list{'s' if len(names) > 1 else ''} {quote(', '.join(names))}"
    return ""


def is_of_types(tables: Iterable[HasTableId]) -> bool:
    """Whether some tables are for one type of interface."""
    return any(table.id.interface_type for table in tables)


def needs_translation(tables: Iterable[HasTableId], family: Family) -> bool:
    """Whether a permit that names no ``me`` outranks a block of packets that leave from ``me``.

    An audit stands for a block.

    Such a permit keeps its rank only where the addresses before source translation are known.
    """
    leaving = [
        table.id
        for table in in_order(tables, Point.LEAVING)
        if table.id.family is family and Point.LEAVING in table.id.points
    ]
    stops = [n for n, each in enumerate(leaving) if _may_stop(each, Action.BLOCK, Action.AUDIT)]
    return bool(stops) and any(table.source != ME for table in leaving[: stops[-1]])


def groups(
    tables: Sequence[HasTableId], point: Point, family: Family
) -> list[tuple[HasTableId, ...]]:
    """The tables of one point and IP version; those that share a step are one group."""
    looked_up = [
        table
        for table in in_order(tables, point)
        if table.id.family is family
        and point in table.id.points
        and (point is not Point.LEAVING or table.id.source == ME)
    ]
    all_groups: list[tuple[HasTableId, ...]] = []
    for _, run in itertools.groupby(looked_up, lambda table: (drops(table), audits(table))):
        shared: dict[TableId, list[HasTableId]] = {}
        for table in run:
            shared.setdefault(_shared_id(table), []).append(table)
        all_groups += [tuple(group) for group in shared.values()]
    return all_groups


def all_groups(classifier: Classifier, points: frozenset[Point]) -> list[tuple[Table, ...]]:
    """The groups of a policy, of all of `points` and both IP versions."""
    return [
        tuple(table for table in group if isinstance(table, Table))
        for point in POINTS
        if point in points
        for family in FAMILY_ORDER
        for group in groups(classifier.tables, point, family)
    ]


def _shared_id(table: HasTableId) -> TableId:
    """What is equal for all tables whose prefixes can be put into one list."""
    table_id = table.id
    if is_in_ranges(table):
        return of_any_length(table_id)
    if table_id.listed:
        return table_id
    if isinstance(table, Table) and table_id.source > 0 >= table_id.destination:
        return table_id.reshaped(source=1)
    if isinstance(table, Table) and table_id.destination > 0 >= table_id.source:
        return table_id.reshaped(destination=1)
    return table_id


def count_steps(classifier: Classifier) -> int:
    """The most steps that a packet can take through the policy."""
    rules = dict.fromkeys(classifier.origins, 0)
    most = 0
    for point in POINTS:
        for family in FAMILY_ORDER:
            count = 0
            for group in groups(classifier.tables, point, family):
                tables = [table for table in group if isinstance(table, Table)]
                if is_in_ranges(group[0]):
                    count += len(looks(tables, rules))
                    continue
                lists = prefix_lists(tables, rules)
                count += len(group) if lists is None else len(lists)
            most = max(most, count)
    return most


def place_group(
    image: Image,
    group: Sequence[HasTableId],
    rules: Mapping[Origin, int],
    lists: Mapping[str, AddressList],
) -> None:
    """Put what the steps of a group look into into `image`, unless it is in an earlier one."""
    tables = [table for table in group if isinstance(table, Table)]
    if tables and is_in_ranges(tables[0]):
        for look in looks(tables, rules):
            place_list(image, look.ranges, lists.get(look.ranges.name, NO_ENTRIES))
    else:
        place_tables(image, tables, rules)


def missing_entries(
    groups: Iterable[Sequence[Table]],
    image: Image,
    rules: Mapping[Origin, int],
    lists: Mapping[str, AddressList],
) -> list[int]:
    """How many entries each of `groups` has that neither those before it nor images have."""
    present: set[GroupKey | ListKey] = {*image.earlier, *image.earlier_lists}
    counts = []
    for group in groups:
        entries: dict[GroupKey | ListKey, int] = {}
        if group and is_in_ranges(group[0]):
            for look in looks(group, rules):
                members = lists.get(look.ranges.name, NO_ENTRIES)
                entries[look.ranges] = look.ranges.count(members)
        else:
            entries[group_key(group)] = sum(map(len, group))
        counts.append(sum(count for key, count in entries.items() if key not in present))
        present |= entries.keys()
    return counts


def steps(
    group: Sequence[HasTableId], image: Image, rules: Mapping[Origin, int], *, alone: bool
) -> list[bytes]:
    """The steps of a group, whose entries are in `image`.

    Programs that judge `alone` count all matches; else the next backend counts what they permit,
    and an audit what is dropped here.
    """
    table_id = group[0].id
    conditions = abi.BLOCKS if drops(group[0]) else 0
    conditions |= abi.COUNTS if alone or drops(group[0]) else 0
    conditions |= abi.AUDITS if audits(group[0]) else 0
    conditions |= abi.IF_SOURCE_ME if table_id.source == ME else 0
    conditions |= abi.IF_DESTINATION_ME if table_id.destination == ME else 0
    conditions |= abi.IF_PORTS if table_id.needs_transport else 0
    interface = _INTERFACES[table_id.interface_type]
    ports = port_bounds(table_id)
    table = group[0]
    if isinstance(table, DynamicTable):
        number = table.number
        return [
            abi.STEP.pack(
                abi.STEP_DYNAMIC,
                conditions,
                interface,
                0,
                0,
                number,
                0,
                *ports,
                mask_of(table_id),
            )
        ]
    if is_in_ranges(table):
        tables = [table for table in group if isinstance(table, Table)]
        return [
            _range_step(
                table_id,
                conditions,
                interface,
                ranges.slot,
                look.shared,
                replace(ranges.lines, rule=look.rule),
                ranges.first,
            )
            for look in looks(tables, rules)
            if (ranges := image.lists.get(look.ranges))
        ]
    location = image.locations[group_key(group)]
    hashed = [
        abi.STEP.pack(
            abi.STEP_HASH,
            conditions,
            interface,
            location.slot,
            0,
            first_line,
            lines,
            *ports,
            mask_of(hash_table_id),
        )
        for hash_table_id, first_line, lines in location.hashes
    ]
    return hashed + [
        _range_step(table_id, conditions, interface, location.slot, shared, range_lines, range_line)
        for shared, range_lines, range_line in location.ranges
    ]


def _range_step(
    table_id: TableId,
    conditions: int,
    interface: int,
    slot: int,
    shared: SharedFields,
    range_lines: RangeLines,
    first_line: int,
) -> bytes:
    if shared.protocol:
        conditions |= abi.IF_PROTOCOL
    # An entry of a list may have the length 0, and so look like any address.
    looks_at = [field.name for field, _ in table_id.listed]
    if "destination" in looks_at or (not looks_at and table_id.destination > 0):
        conditions |= abi.OF_DESTINATION
    protocol = shared.protocol[0] if shared.protocol else 0
    return abi.STEP.pack(
        abi.STEP_RANGES,
        conditions,
        interface,
        slot,
        range_lines.rule,
        0,
        0,
        *port_bounds(table_id, shared),
        range_lines.describe(first_line, protocol),
    )


def state_lines(
    classifier: Classifier,
    dynamic: Sequence[DynamicTable],
    image: Image,
    rules: Mapping[Origin, int],
    *,
    points: frozenset[Point],
    alone: bool,
    max_steps: int,
    first_host: int,
    generation: int,
) -> bytes:
    """The lines of the state map; puts new tables into `image`. For `alone` see ``steps``.

    Raises ``LimitExceeded`` for more than `max_steps` steps of one point and IP version.
    """
    tables: list[HasTableId] = [*classifier.tables, *dynamic]
    blocking = any(table.id.action is Action.BLOCK for table in tables)
    patterns = [pattern for name in classifier.exemptions for pattern in exemption(name).patterns]
    heads: list[bytes] = []
    body: list[bytes] = []
    for point in POINTS:
        # A backend that judges after the programs may be able to read what they cannot.
        drop = alone and blocking and classifier.drop_unparsable and point is not Point.LEAVING
        for family in FAMILY_ORDER:
            first = abi.FIRST_STEP_LINE + len(body)
            steps_of_point = []
            for group in groups(tables, point, family) if point in points else ():
                place_group(image, group, rules, classifier.lists)
                steps_of_point += steps(group, image, rules, alone=alone)
            if len(steps_of_point) > max_steps:
                raise LimitExceeded(
                    f"the policy needs {len(steps_of_point)} look-ups for one packet, and the XDP "
                    f"backend can do {max_steps} on this kernel",
                    "use fewer different port ranges and address lengths",
                )
            body += steps_of_point
            exempt = patterns_at(patterns, point, family)
            first_pattern = abi.FIRST_STEP_LINE + len(body)
            body += map(pattern_line, exempt)
            heads.append(
                abi.HEAD.pack(
                    first,
                    len(steps_of_point),
                    first_pattern,
                    len(exempt),
                    int(drop and point in points),
                    first_host,
                    generation,
                    int(not alone and point is Point.ARRIVING),
                    *exempt_words(exempt),
                )
            )
    mark = abi.MARK.pack(bytes.fromhex(classifier.digest))
    return b"".join([*heads, mark, *body])
