"""Owns the ranges of a list in the memory that programs read, and what an edit of them is; pure.

Ranges lie as ``lines.RangeLines`` has them, with room behind the last. They are those of the widest
entries, since all entries of a list have one rule and action.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.lines import RangeLines, prefix, range_lines
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form, split

LEAST_ROOM = 1024
"""Room for so many ranges, or for a quarter of those that there are if that is more."""


class ListKey(NamedTuple):
    """Which entries ranges are of: those of one list and IP version that have these lengths."""

    name: str
    family: Family
    lengths: tuple[int, ...]

    @property
    def forms(self) -> list[Form]:
        """IP version and length of the entries, for each length."""
        return [Form(self.family, length) for length in self.lengths]

    def count(self, members: AddressList) -> int:
        """How many of the entries of a list these are."""
        return sum(map(members.count, self.forms))


@dataclass(slots=True)
class Room:
    """Which windows for ranges are free, by log2 of their width, and what was never used."""

    begin: int
    end: int
    free: dict[int, list[int]] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class ListRanges:
    """Ranges in an image: of which entries of which list, from which line on, and the room there.

    ``lines`` describe them, without their content. ``edits`` counts how often they were edited.
    """

    key: ListKey
    members: AddressList
    slot: int
    first: int
    size: int
    lines: RangeLines
    room: Room
    edits: int = 0

    def is_of(self, key: ListKey, members: AddressList) -> bool:
        """Whether they are those of these entries of a list."""
        return self.key == key and (
            self.members is members
            or all(self.members.is_same(form, members) for form in key.forms)
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """What makes ranges those of other entries: bytes for places in the image, and the room then.

    ``after`` is how often the ranges had been edited before.
    """

    ranges: ListRanges
    after: int
    key: ListKey
    members: AddressList
    writes: tuple[tuple[int, bytes], ...]
    room: Room

    @property
    def is_due(self) -> bool:
        """Whether the ranges are still as they were when this was worked out."""
        return self.ranges.edits == self.after

    @property
    def is_of_now(self) -> bool:
        """Whether the ranges are those of this very list already."""
        return self.ranges.key == self.key and self.ranges.members is self.members

    def note(self) -> None:
        """Have the ranges know what was written."""
        self.ranges.key, self.ranges.members = self.key, self.members
        self.ranges.room = self.room
        self.ranges.edits += 1


def list_lines(key: ListKey, members: AddressList) -> RangeLines | None:
    """The lines of the ranges of these entries, with room; None if there are none."""
    prefixes: list[int] = []
    for form in key.forms:
        packed = members.entries.get(form, b"")
        if key.family is Family.IPV4:
            addresses = struct.unpack(f">{len(packed) // form.width}I", packed)
            # As ``lines.prefix`` does it; calls would take as long as all else.
            prefixes += [(address << 8 | form.length) << 32 for address in addresses]
        else:
            prefixes += [
                prefix(int.from_bytes(entry, "big"), form.length, 0)
                for entry in split(packed, form.width)
            ]
    if not prefixes:
        return None
    return range_lines(key.family, prefixes, spare=max(LEAST_ROOM, len(prefixes) // 4))


def list_ranges(
    key: ListKey, members: AddressList, lines: RangeLines, slot: int, first: int
) -> ListRanges:
    """The ranges whose lines were put into the image of a slot from line `first` on."""
    room = Room(lines.room, lines.count)
    size = len(lines.lines) // abi.LINE
    return ListRanges(key, members, slot, first, size, replace(lines, lines=b""), room)
