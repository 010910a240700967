"""Owns the translation of tables into steps and images; pure: the same tables, the same lines.

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
from dataclasses import dataclass, field
from typing import NamedTuple

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.lines import RangeLines, hash_lines, prefix, range_lines
from ipsecd.backend.xdp.slots import Fixed, fixed_of, mask_of, packet_key, port_bounds
from ipsecd.compiler.classifier import Classifier, Ranked, Table, in_order
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
_COMBINATIONS = 8
"""Into how many steps a list is split by protocol and port, before a hash for each length is
better."""


class Dynamic(NamedTuple):
    """A table of dynamic rules, by its number in the map of dynamic entries."""

    id: TableId
    number: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the lines of one or more tables lie in an image: as hashes, or together as ranges.

    A hash has its table, its first line, and the number of its lines less one.
    """

    hashes: tuple[tuple[TableId, int, int], ...] = ()
    ranges: tuple[tuple[Fixed, RangeLines, int], ...] = ()


@dataclass(slots=True)
class Image:
    """Lines that steps look into; ``places`` knows where those of which tables are."""

    slot: int
    chunks: list[bytes] = field(default_factory=lambda: [bytes(abi.LINE)])
    lines: int = 1
    places: dict[tuple[TableId, ...], Placed] = field(default_factory=dict)

    def put(self, chunk: bytes) -> int:
        """Append lines; the number of the first."""
        first = self.lines
        self.chunks.append(chunk)
        self.lines += len(chunk) // abi.LINE
        return first


def needs_translation(tables: Iterable[Ranked], family: Family) -> bool:
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


def groups(tables: Sequence[Ranked], point: Point, family: Family) -> list[tuple[Ranked, ...]]:
    """The tables of one point and IP version, those that share a step together."""
    wanted = [
        table
        for table in in_order(tables, point)
        if table.id.family is family
        and point in table.id.points
        and (point is not Point.LEAVING or table.id.source == ME)
    ]
    found: list[tuple[Ranked, ...]] = []
    for _, run in itertools.groupby(wanted, lambda table: table.id.action):
        shared: dict[TableId, list[Ranked]] = {}
        for table in run:
            shared.setdefault(_shares(table), []).append(table)
        found += [tuple(group) for group in shared.values()]
    return found


def _shares(table: Ranked) -> TableId:
    """What tables have in common whose prefixes can be put into one list."""
    one = table.id
    if isinstance(table, Table) and one.source > 0 >= one.destination:
        return one.reshaped(source=1)
    if isinstance(table, Table) and one.destination > 0 >= one.source:
        return one.reshaped(destination=1)
    return one


def holds_all(image: Image, classifier: Classifier, dynamic: Sequence[Dynamic]) -> bool:
    """Whether `image` has the lines of every group of tables."""
    tables: list[Ranked] = [*classifier.tables, *dynamic]
    return all(
        tuple(table.id for table in group) in image.places
        for point in POINTS
        for family in FAMILY_ORDER
        for group in groups(tables, point, family)
        if isinstance(group[0], Table)
    )


def place(image: Image, group: tuple[Ranked, ...], rules: Mapping[Origin, int]) -> None:
    """Put the entries of the tables of a group into `image`, unless they are there."""
    tables = [table for table in group if isinstance(table, Table)]
    key = tuple(table.id for table in tables)
    if not tables or key in image.places:
        return
    lists = _as_lists(tables, rules)
    if lists is None:
        hashes = []
        for table in tables:
            chunk = hash_lines(table.id.family, list(_hash_entries(table, rules)))
            hashes.append((table.id, image.put(chunk), len(chunk) // abi.LINE - 1))
        image.places[key] = Placed(hashes=tuple(hashes))
        return
    ranges = []
    for fixed, prefixes in sorted(lists.items()):
        found = range_lines(tables[0].id.family, prefixes)
        ranges.append((fixed, found, image.put(found.lines)))
    image.places[key] = Placed(ranges=tuple(ranges))


def is_list(group: tuple[Ranked, ...]) -> bool:
    """Whether the group is looked up as prefixes: more than one length, or many of one."""
    tables = [table for table in group if isinstance(table, Table)]
    if not tables or (tables[0].id.source > 0) == (tables[0].id.destination > 0):
        return False
    return len(tables) > 1 or len(tables[0]) > 64


def count_steps(classifier: Classifier) -> int:
    """The most steps that a packet can take through the policy."""
    rules = dict.fromkeys(classifier.origins, 0)
    most = 0
    for point in POINTS:
        for family in FAMILY_ORDER:
            found = 0
            for group in groups(classifier.tables, point, family):
                lists = _as_lists([t for t in group if isinstance(t, Table)], rules)
                found += len(group) if lists is None else len(lists)
            most = max(most, found)
    return most


def _as_lists(
    tables: Sequence[Table], rules: Mapping[Origin, int]
) -> dict[Fixed, list[int]] | None:
    """Prefixes by the other fields of their keys; None if they are better hashed."""
    if not is_list(tuple(tables)):
        return None
    lists: dict[Fixed, list[int]] = {}
    for table in tables:
        _add_prefixes(table, rules, lists)
        if len(lists) > _COMBINATIONS:
            return None
    return lists


def _add_prefixes(table: Table, rules: Mapping[Origin, int], lists: dict[Fixed, list[int]]) -> None:
    one = table.id
    length = one.source if one.source > 0 else one.destination
    address_bytes = one.family.bits // 8
    before = one.key_width - address_bytes
    numbers = [rules[origin] for origin in table.origins]
    writers = table.writers or None
    if not before and one.family is Family.IPV4:
        found = struct.unpack(f">{len(table)}I", table.keys)
        used = itertools.repeat(numbers[0]) if writers is None else (numbers[w] for w in writers)
        prefixes = [
            (address << 8 | length) << 32 | rule for address, rule in zip(found, used, strict=False)
        ]
        lists.setdefault(Fixed(b"", b"", b""), []).extend(prefixes)
        return
    width = one.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        address = int.from_bytes(key[before:], "big")
        rule = numbers[writers[index] if writers else 0]
        lists.setdefault(fixed_of(one, key), []).append(prefix(address, length, rule))


def _hash_entries(table: Table, rules: Mapping[Origin, int]) -> Iterable[tuple[bytes, int]]:
    width = table.id.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        yield packet_key(table.id, key), rules[table.origin(index)]


def steps(group: tuple[Ranked, ...], image: Image, *, alone: bool) -> list[bytes]:
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
    tables = [table for table in group if isinstance(table, Table)]
    placed = image.places[tuple(table.id for table in tables)]
    hashed = [
        abi.STEP.pack(
            abi.STEP_HASH,
            conditions,
            interface,
            image.slot,
            0,
            first_line,
            lines,
            *ports,
            mask_of(table_id),
        )
        for table_id, first_line, lines in placed.hashes
    ]
    return hashed + [
        _range_step(one, conditions, interface, image.slot, fixed, found, at)
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
    tables: list[Ranked] = [*classifier.tables, *dynamic]
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
