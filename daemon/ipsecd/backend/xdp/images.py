"""Owns which lines of which tables lie in which image; pure, must not know steps nor the kernel.

Invariants:

1. An image is written once. Tables that stay as they are stay where they are, so that a change
   costs by the tables that it makes anew.
2. No more images are in use than leave a slot of ``abi.IMAGES`` free for the next one.
3. Of an image that stays at least half was in use when it was last looked at.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.lines import RangeLines, hash_lines, prefix, range_lines
from ipsecd.backend.xdp.slots import Fixed, fixed_of, packet_key
from ipsecd.compiler.classifier import Classifier, HasTableId, Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.values import Origin

_COMBINATIONS = 8
"""Into how many steps a list is split by protocol and port, before a hash for each length is
better."""

Key = tuple[str, ...]
"""The digests of the tables of a group."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the lines of one or more tables lie in an image: as hashes, or together as ranges.

    A hash has its table, its first line, and the number of its lines less one. ``lines`` is how
    many there are of all of them.
    """

    slot: int
    lines: int
    hashes: tuple[tuple[TableId, int, int], ...] = ()
    ranges: tuple[tuple[Fixed, RangeLines, int], ...] = ()


@dataclass(slots=True)
class Image:
    """Lines that are made for the steps of a state; ``places`` knows where they all are.

    What is ``there`` lies in earlier images, of which ``sizes`` has the numbers of lines.
    """

    slot: int
    there: Mapping[Key, Placed] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=lambda: [bytes(abi.LINE)])
    lines: int = 1
    places: dict[Key, Placed] = field(default_factory=dict)

    def put(self, chunk: bytes) -> int:
        """Append lines; the number of the first."""
        first = self.lines
        self.chunks.append(chunk)
        self.lines += len(chunk) // abi.LINE
        self.sizes[self.slot] = self.lines
        return first

    @property
    def is_needed(self) -> bool:
        """Whether any line is new."""
        return self.lines > 1

    @property
    def slots(self) -> frozenset[int]:
        """The slots of the images that its state looks into."""
        return frozenset(placed.slot for placed in self.places.values())


def following(image: Image, classifier: Classifier) -> Image:
    """The image for what `classifier` has and the images that are in use with `image` have not."""
    wanted = {table.digest for table in classifier.tables}
    known = {key: placed for key, placed in image.places.items() if wanted.issuperset(key)}
    used: Counter[int] = Counter()
    for placed in known.values():
        used[placed.slot] += placed.lines
    stay = {
        slot for slot, lines in used.most_common(abi.IMAGES - 2) if 2 * lines >= image.sizes[slot]
    }
    free = min(set(range(abi.IMAGES)) - image.slots)
    there = {key: placed for key, placed in known.items() if placed.slot in stay}
    return Image(free, there, {slot: image.sizes[slot] for slot in stay})


def key_of(group: Iterable[HasTableId]) -> Key:
    """What the lines of a group are known by."""
    return tuple(table.digest for table in group if isinstance(table, Table))


def place(image: Image, group: Sequence[HasTableId], rules: Mapping[Origin, int]) -> None:
    """Put the entries of the tables of a group into `image`, unless they are there."""
    tables = [table for table in group if isinstance(table, Table)]
    key = key_of(tables)
    if not tables or key in image.places:
        return
    image.places[key] = image.there.get(key) or _put(image, tables, rules)


def _put(image: Image, tables: Sequence[Table], rules: Mapping[Origin, int]) -> Placed:
    lists = as_lists(tables, rules)
    before = image.lines
    if lists is None:
        hashes = []
        for table in tables:
            chunk = hash_lines(table.id.family, list(_hash_entries(table, rules)))
            hashes.append((table.id, image.put(chunk), len(chunk) // abi.LINE - 1))
        return Placed(image.slot, image.lines - before, hashes=tuple(hashes))
    ranges = []
    for fixed, prefixes in sorted(lists.items()):
        found = range_lines(tables[0].id.family, prefixes)
        first = image.put(found.lines)
        ranges.append((fixed, replace(found, lines=b""), first))
    return Placed(image.slot, image.lines - before, ranges=tuple(ranges))


def is_list(tables: Sequence[Table]) -> bool:
    """Whether the group is looked up as prefixes: more than one length, or many of one."""
    if not tables or (tables[0].id.source > 0) == (tables[0].id.destination > 0):
        return False
    return len(tables) > 1 or len(tables[0]) > 64


def as_lists(tables: Sequence[Table], rules: Mapping[Origin, int]) -> dict[Fixed, list[int]] | None:
    """Prefixes by the other fields of their keys; None if they are better hashed."""
    if not is_list(tables):
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
