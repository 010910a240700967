"""Owns which lines of which tables lie in which image; pure, knows neither steps nor the kernel.

Invariants:

1. An image is written once, but for the ranges of lists. Tables that do not change stay where they
   are, so that the cost of a change depends only on the tables that are new.
2. Of the ``abi.IMAGES`` slots one is always free for the next image.
3. An image stays only if at least half of its lines were in use at the last change. Where too many
   would stay, the smallest are put together, so that this is not due again at the next change.
4. The ranges of a list lie there once, however many tables look into it.
"""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import byteorder

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.lines import RangeLines, hash_lines, prefix, range_lines
from ipsecd.backend.xdp.list_ranges import ListKey, ListRanges, list_lines, list_ranges
from ipsecd.backend.xdp.slots import SharedFields, packet_key, shared_fields
from ipsecd.compiler.classifier import Classifier, HasTableId, Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Origin

_COMBINATIONS = 8
"""The most steps into which a list is split by protocol and port; with more of them a hash for each
prefix length is better."""

GroupKey = tuple[str, ...]
"""The digests of the tables of a group."""


@dataclass(frozen=True, slots=True)
class LineLocation:
    """Where the lines of one or more tables lie in an image: as hashes, or together as ranges.

    For each hash ``hashes`` has the table, the first line, and the number of lines less one; for
    each list of ranges ``ranges`` has the fields that all its entries share, the list without its
    lines, and the first line. ``lines`` is the number of all lines.
    """

    slot: int
    lines: int
    hashes: tuple[tuple[TableId, int, int], ...] = ()
    ranges: tuple[tuple[SharedFields, RangeLines, int], ...] = ()


@dataclass(slots=True)
class Image:
    """The new lines for a state; ``locations`` says where the lines of all its tables are.

    ``earlier`` has the tables whose lines lie in earlier images. ``sizes`` has the number of lines
    of each image, by slot. ``lists`` and ``earlier_lists`` are the same for the ranges of lists.
    """

    slot: int
    earlier: Mapping[GroupKey, LineLocation] = field(default_factory=dict)
    earlier_lists: Mapping[ListKey, ListRanges] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=lambda: [bytes(abi.LINE)])
    lines: int = 1
    locations: dict[GroupKey, LineLocation] = field(default_factory=dict)
    lists: dict[ListKey, ListRanges] = field(default_factory=dict)

    def put(self, chunk: bytes) -> int:
        """Append lines; returns the number of the first."""
        first = self.lines
        self.chunks.append(chunk)
        self.lines += len(chunk) // abi.LINE
        self.sizes[self.slot] = self.lines
        return first

    @property
    def is_needed(self) -> bool:
        """Whether there are new lines, after the empty one that every image begins with."""
        return self.lines > 1

    @property
    def own_locations(self) -> dict[GroupKey, LineLocation]:
        """Where the lines are that are new in this image."""
        return {key: lines for key, lines in self.locations.items() if lines.slot == self.slot}

    @property
    def own_lists(self) -> dict[ListKey, ListRanges]:
        """The ranges of lists that are new in this image."""
        return {key: ranges for key, ranges in self.lists.items() if ranges.slot == self.slot}

    def share_used(self, classifier: Classifier) -> float:
        """Which part of its new lines the tables of `classifier` use, from 0 to 1."""
        digests = {table.digest for table in classifier.tables}
        used = sum(
            lines.lines for key, lines in self.own_locations.items() if digests.issuperset(key)
        )
        lists = _of_now(self.own_lists, classifier)
        return (used + sum(ranges.size for ranges in lists.values())) / self.lines

    @property
    def slots(self) -> frozenset[int]:
        """The slots of all images that the state looks into."""
        tables = (location.slot for location in self.locations.values())
        return frozenset((*tables, *(ranges.slot for ranges in self.lists.values())))


def next_image(
    image: Image,
    classifier: Classifier,
    lists: Mapping[ListKey, ListRanges] | None = None,
    loaded: Image | None = None,
) -> Image:
    """The image for the tables of `classifier` that no image in use together with `image` has.

    `lists` are the ranges that may stay where they are. It begins with the lines of `loaded` if
    there is one, which has been written to memory already.
    """
    lists = lists or {}
    digests = {table.digest for table in classifier.tables}
    kept = {key: location for key, location in image.locations.items() if digests.issuperset(key)}
    stay = _staying(image, kept.values(), lists.values())
    free = min(set(range(abi.IMAGES)) - image.slots)
    earlier = {key: location for key, location in kept.items() if location.slot in stay}
    earlier_lists = {key: ranges for key, ranges in lists.items() if ranges.slot in stay}
    sizes = {slot: image.sizes[slot] for slot in stay}
    following = Image(free, earlier, earlier_lists, sizes)
    if loaded:
        own = {key: replace(lines, slot=free) for key, lines in loaded.own_locations.items()}
        following.earlier = own | earlier
        own_lists = _of_now(loaded.own_lists, classifier)
        following.earlier_lists = earlier_lists | {
            key: replace(ranges, slot=free) for key, ranges in own_lists.items()
        }
        following.chunks, following.lines = [], loaded.lines
        following.sizes[free] = loaded.lines
    return following


def _staying(
    image: Image, kept: Iterable[LineLocation], lists: Iterable[ListRanges]
) -> frozenset[int]:
    """The slots of the images that stay, in which these lines lie."""
    used: Counter[int] = Counter()
    for location in kept:
        used[location.slot] += location.lines
    for ranges in lists:
        used[ranges.slot] += ranges.size
    staying = [slot for slot, lines in used.most_common() if 2 * lines >= image.sizes[slot]]
    most = abi.IMAGES - 2
    return frozenset(staying if len(staying) <= most else staying[: most - 1])


def _of_now(
    lists: Mapping[ListKey, ListRanges], classifier: Classifier
) -> dict[ListKey, ListRanges]:
    """The ranges that have the entries which the lists of `classifier` have."""
    now = classifier.lists
    return {
        key: ranges
        for key, ranges in lists.items()
        if key.name in now and now[key.name].digest == ranges.members.digest
    }


def group_key(group: Iterable[HasTableId]) -> GroupKey:
    """The key under which the lines of a group are kept."""
    return tuple(table.digest for table in group if isinstance(table, Table))


def place_tables(image: Image, group: Sequence[HasTableId], rules: Mapping[Origin, int]) -> None:
    """Put the entries of the tables of a group into `image`, unless they are in an earlier one."""
    tables = [table for table in group if isinstance(table, Table)]
    key = group_key(tables)
    if not tables or key in image.locations:
        return
    image.locations[key] = image.earlier.get(key) or _put(image, tables, rules)


def place_list(image: Image, key: ListKey, members: AddressList) -> ListRanges | None:
    """Put the ranges of entries of a list into `image`, unless they are in an earlier one.

    None if there are no such entries.
    """
    if key in image.lists:
        return image.lists[key]
    placed = image.earlier_lists.get(key)
    if placed is None:
        lines = list_lines(key, members)
        if lines is None:
            return None
        placed = list_ranges(key, members, lines, image.slot, image.put(lines.lines))
    image.lists[key] = placed
    return placed


def _put(image: Image, tables: Sequence[Table], rules: Mapping[Origin, int]) -> LineLocation:
    lists = prefix_lists(tables, rules)
    before = image.lines
    if lists is None:
        hashes = []
        for table in tables:
            chunk = hash_lines(table.id.family, list(_hash_entries(table, rules)))
            hashes.append((table.id, image.put(chunk), len(chunk) // abi.LINE - 1))
        return LineLocation(image.slot, image.lines - before, hashes=tuple(hashes))
    ranges = []
    for shared, prefixes in sorted(lists.items()):
        encoded = range_lines(tables[0].id.family, prefixes)
        first = image.put(encoded.lines)
        ranges.append((shared, replace(encoded, lines=b""), first))
    return LineLocation(image.slot, image.lines - before, ranges=tuple(ranges))


def is_prefix_list(tables: Sequence[Table]) -> bool:
    """Whether the group is looked up as a list of prefixes: of several lengths, or many of one."""
    if (
        not tables
        or tables[0].id.listed
        or (tables[0].id.source > 0) == (tables[0].id.destination > 0)
    ):
        return False
    return len(tables) > 1 or len(tables[0]) > 64


def prefix_lists(
    tables: Sequence[Table], rules: Mapping[Origin, int]
) -> dict[SharedFields, list[int]] | None:
    """The prefixes of a group by the other fields of their keys; None if hashes are better."""
    if not is_prefix_list(tables):
        return None
    lists: dict[SharedFields, list[int]] = {}
    for table in tables:
        _add_prefixes(table, rules, lists)
        if len(lists) > _COMBINATIONS:
            return None
    return lists


def _add_prefixes(
    table: Table, rules: Mapping[Origin, int], lists: dict[SharedFields, list[int]]
) -> None:
    table_id = table.id
    length = table_id.source if table_id.source > 0 else table_id.destination
    address_bytes = table_id.family.bits // 8
    offset = table_id.key_width - address_bytes
    numbers = [rules[origin] for origin in table.origins]
    writers = table.writers or None
    if not offset and table_id.family is Family.IPV4:
        addresses = array("I", table.keys)
        if byteorder == "little":
            addresses.byteswap()
        numbers_by_entry = (
            itertools.repeat(numbers[0]) if writers is None else (numbers[w] for w in writers)
        )
        # A million of these integers are 40 MB: there are no more of them than are kept.
        lists.setdefault(SharedFields(b"", b"", b""), []).extend(
            (address << 8 | length) << 32 | rule
            for address, rule in zip(addresses, numbers_by_entry, strict=False)
        )
        return
    width = table_id.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        address = int.from_bytes(key[offset:], "big")
        rule = numbers[writers[index] if writers else 0]
        lists.setdefault(shared_fields(table_id, key), []).append(prefix(address, length, rule))


def _hash_entries(table: Table, rules: Mapping[Origin, int]) -> Iterable[tuple[bytes, int]]:
    width = table.id.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        yield packet_key(table.id, key), rules[table.origin(index)]
