"""Owns working out how the ranges of a list become those of other entries in place; pure.

Where an entry comes or goes, the ranges of the buckets that it reaches into are written anew: where
there is room, and then the words of the index that say where they are. Invariants:

1. An edit is worked out without a change; what cannot be edited is said before anything is.
2. While an edit is carried out, no packet looks into the ranges.
3. The first ranges stay as they are, since windows of neighbours overlap there. Of the room, a
   window that is given up is used again.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from sys import byteorder
from typing import NamedTuple, TypeAlias

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.list_ranges import Edit, ListKey, ListRanges, Room
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form, split

IN_PLACE = 5_000
"""The most entries that come and go in an edit, and the most buckets that they reach into: an edit
takes some hundredths of a second."""
WIDEST_WINDOW = 1 << 12
"""The most ranges of a bucket that is edited."""

Memory: TypeAlias = "mmap.mmap | bytearray"
"""What can be read as the lines of an image."""
Range = tuple[int, int]
"""The first and the last address."""


def edited(ranges: ListRanges, key: ListKey, members: AddressList, memory: Memory) -> Edit | None:
    """The edit that makes `ranges`, whose image is `memory`, those of other entries.

    None if they had better be laid out anew: for an address out of their index, or where too much
    changes or there is no room.
    """
    if ranges.is_of(key, members):
        return Edit(ranges, ranges.edits, key, members, (), ranges.room)
    change = _change(ranges, key, members)
    if change is None:
        return None
    work = _Work(ranges, key, members, memory)
    try:
        for first, length in change.removed:
            work.remove(first, length)
        for first, length in change.added:
            work.add(*work.range_of(first, length))
        writes = tuple(work.writes())
    except _Unfit:
        return None
    return Edit(ranges, ranges.edits, key, members, writes, work.room_after())


class _Unfit(Exception):
    """The ranges cannot be edited in place."""


class _Changed(NamedTuple):
    """Addresses and lengths of the entries that go and those that come."""

    removed: list[tuple[int, int]]
    added: list[tuple[int, int]]


def _change(ranges: ListRanges, key: ListKey, members: AddressList) -> _Changed | None:
    """The entries that go and those that come; None if they are too many."""
    old, forms = ranges.members, {*ranges.key.forms, *key.forms}
    changed = _Changed([], [])
    for form in forms:
        was, is_now = form in ranges.key.forms, form in key.forms
        before, after = was * old.count(form), is_now * members.count(form)
        if abs(before - after) > IN_PLACE:
            return None
        if was and is_now:
            gone, came = old.change_of(form, members)
        else:
            gone = _all_of(old, form) if was else b""
            came = _all_of(members, form) if is_now else b""
        if len(gone) + len(came) > IN_PLACE * form.width:
            return None
        for entries, packed in ((changed.removed, gone), (changed.added, came)):
            entries += [
                (int.from_bytes(entry, "big"), form.length) for entry in split(packed, form.width)
            ]
    return changed if len(changed.removed) + len(changed.added) <= IN_PLACE else None


def _all_of(members: AddressList, form: Form) -> bytes:
    """The entries of one form, without packing others of the list."""
    return members.layers.between(form, bytes(form.width), b"\xff" * form.width)


class _Work:
    """The buckets that an edit is about, as they are to be."""

    def __init__(
        self, ranges: ListRanges, key: ListKey, members: AddressList, memory: Memory
    ) -> None:
        self._ranges, self._members = ranges, members
        self._forms = sorted(key.forms)
        self._memory = memory
        lines = ranges.lines
        self._bits = key.family.bits
        self._upper = 0 if key.family is Family.IPV4 else 64
        self._index = ranges.first * abi.LINE
        self._entries = (ranges.first + lines.entries) * abi.LINE
        self._width = 8 if key.family is Family.IPV4 else 32
        self._buckets: dict[int, list[Range]] = {}
        self._before: dict[int, list[Range]] = {}
        self._begin = ranges.room.begin
        self._released: dict[int, list[int]] = {}
        self._taken: dict[int, int] = {}

    def range_of(self, first: int, length: int) -> Range:
        """The first and the last address of an entry."""
        return first, first | (1 << self._bits - length) - 1

    def remove(self, address: int, length: int) -> None:
        """Have no ranges for an entry but for those entries in it that are left.

        Where a wider entry covers it, or did and has been removed, there is nothing to do.
        """
        gone = self.range_of(address, length)
        reached = self._reached(gone)
        if reached is None or gone not in self._bucket(reached[0]):
            return
        for bucket in range(reached[0], reached[1] + 1):
            self._bucket(bucket).remove(gone)
        for first, last in self._within(gone, length):
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Have a range for an entry, unless a wider one covers it."""
        reached = self._reached((first, last))
        if reached is None:
            raise _Unfit
        for bucket in range(reached[0], reached[1] + 1):
            present = self._bucket(bucket)
            at = bisect_left(present, (first, -1))
            if at and present[at - 1][1] >= last:
                return
            end = at
            while end < len(present) and present[end][0] <= last:
                if present[end][0] == first and present[end][1] >= last:
                    return
                end += 1
            present[at:end] = [(first, last)]

    def _within(self, wide: Range, length: int) -> Iterator[Range]:
        """The widest entries within one that is none any more."""
        count = 0
        found: list[Range] = []
        for form in self._forms:
            if form.length <= length:
                continue
            first, last = (form.packed(address) for address in wide)
            packed = self._members.layers.between(form, first, last)
            count += len(packed) // form.width
            if count > IN_PLACE:
                raise _Unfit
            found += [
                self.range_of(int.from_bytes(entry, "big"), form.length)
                for entry in split(packed, form.width)
            ]
        found.sort(key=lambda entry: (entry[0], -entry[1]))
        end = -1
        for first_address, last_address in found:
            if last_address > end:
                end = last_address
                yield first_address, last_address

    def _reached(self, entry: Range) -> Range | None:
        """The first and the last bucket that an entry reaches into; None if it is not in the index.

        Raises ``_Unfit`` if they are too many.
        """
        lines = self._ranges.lines
        first, last = ((address >> self._upper) - lines.origin >> lines.shift for address in entry)
        if first < 0 or last >= lines.buckets:
            return None
        if last - first + len(self._buckets) > IN_PLACE:
            raise _Unfit
        return first, last

    def _bucket(self, number: int) -> list[Range]:
        """The ranges of a bucket, to be changed."""
        present = self._buckets.get(number)
        if present is None:
            present = list(self._read(number))
            self._before[number] = present[:]
            self._buckets[number] = present
        return present

    def _word(self, bucket: int) -> tuple[int, int]:
        """The first number of the window of a bucket, and log2 of its width."""
        at = self._index + 4 * bucket
        word = int.from_bytes(self._memory[at : at + 4], byteorder)
        return word >> 5, word & 31

    def _read(self, bucket: int) -> Iterator[Range]:
        number, log = self._word(bucket)
        if log == abi.NO_RANGES:
            return
        if 1 << log > 2 * WIDEST_WINDOW:
            raise _Unfit
        lines = self._ranges.lines
        low = lines.origin + (bucket << lines.shift)
        high = low + (1 << lines.shift) - 1
        at = self._entries + number * self._width
        before = None
        for entry in self._unpacked(self._memory[at : at + (self._width << log)]):
            if entry[0] >> self._upper > high:
                return
            # The last one of a window is repeated behind it.
            if entry != before and entry[1] >> self._upper >= low:
                yield entry
            before = entry

    def _unpacked(self, data: bytes | bytearray) -> Iterator[Range]:
        if not self._upper:
            yield from struct.iter_unpack("=II", data)
            return
        for high, low, last_high, last_low in struct.iter_unpack("=QQQQ", data):
            yield high << 64 | low, last_high << 64 | last_low

    def _packed(self, ranges: list[Range]) -> bytes:
        numbers = [address for entry in ranges for address in entry]
        if not self._upper:
            return array("I", numbers).tobytes()
        low = (1 << 64) - 1
        return array("Q", (part for n in numbers for part in (n >> 64, n & low))).tobytes()

    def writes(self) -> Iterator[tuple[int, bytes]]:
        """What is to be written, and where; takes room, so it is to be called once."""
        changed = [
            (number, ranges)
            for number, ranges in self._buckets.items()
            if ranges != self._before[number]
        ]
        for bucket, _ in changed:
            number, log = self._word(bucket)
            if log != abi.NO_RANGES and number >= self._ranges.lines.room:
                self._released.setdefault(log, []).append(number)
        for bucket, ranges in changed:
            word = abi.NO_RANGES
            if ranges:
                if len(ranges) > WIDEST_WINDOW:
                    raise _Unfit
                log = (len(ranges) - 1).bit_length()
                number = self._take(log)
                padded = ranges + ranges[-1:] * ((1 << log) - len(ranges))
                yield self._entries + number * self._width, self._packed(padded)
                word = number << 5 | log
            yield self._index + 4 * bucket, word.to_bytes(4, byteorder)

    def _take(self, log: int) -> int:
        """A free window: one that is released, one that was free before, or a new one."""
        if released := self._released.get(log):
            return released.pop()
        free, taken = self._ranges.room.free.get(log, []), self._taken.get(log, 0)
        if taken < len(free):
            self._taken[log] = taken + 1
            return free[-1 - taken]
        number = self._begin
        if number + (1 << log) > self._ranges.room.end:
            raise _Unfit
        self._begin = number + (1 << log)
        return number

    def room_after(self) -> Room:
        """The room that is left. It has the free windows of before, without those that are taken.

        They may be many, so those that stay are not copied where nothing is taken.
        """
        room = self._ranges.room
        free = dict(room.free)
        for log in {*self._taken, *self._released}:
            before = room.free.get(log, [])
            free[log] = before[: len(before) - self._taken.get(log, 0)]
            free[log] += self._released.get(log, [])
        return Room(self._begin, room.end, free)
