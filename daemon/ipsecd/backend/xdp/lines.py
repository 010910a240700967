"""Owns how entries are laid out in lines for the programs to look up; pure.

A hash table fills lines of its own: a key lies in the line that its hash names, or in one of the
few lines after that. Ranges are sorted and disjoint, and an index over the address space says which
few of them can hold an address, so that most look-ups without a match read only one word.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ipsecd.backend.xdp import abi
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family

_MAX_BUCKETS = 1 << 20
_WORDS = {Family.IPV4: struct.Struct("=2Q"), Family.IPV6: struct.Struct("=5Q")}
_PER_LINE = {Family.IPV4: 3, Family.IPV6: 1}

_Line = list[tuple[bytes, int]]
Numbers: TypeAlias = "array[int] | list[int]"
"""Addresses, as a packed array where 32 bits hold each of them."""


def hash_lines(family: Family, entries: Sequence[tuple[bytes, int]]) -> bytes:
    """Lines that hold `entries`, pairs of a key (16 or 40 bytes) and the number of its rule.

    The number of lines is a power of two.
    """
    words = _WORDS[family]
    hashes = [abi.hash_words(words.unpack(key)) for key, _ in entries]
    lines = 1
    while lines * _PER_LINE[family] < 2 * len(entries) and len(entries) > 1:
        lines *= 2
    while True:
        filled = _place(family, entries, hashes, lines)
        if filled is not None:
            break
        lines *= 2
    encode = _hash4 if family is Family.IPV4 else _hash6
    buckets, continued = filled
    return b"".join(
        encode(bucket, is_continued)
        for bucket, is_continued in zip(buckets, continued, strict=True)
    )


def _place(
    family: Family, entries: Sequence[tuple[bytes, int]], hashes: Sequence[int], lines: int
) -> tuple[list[_Line], bytearray] | None:
    """Every entry in the line of its hash or one soon after it; None if there is no room.

    The second value says of each line whether entries that had no room in it lie further on.
    """
    room = _PER_LINE[family]
    buckets: list[_Line] = [[] for _ in range(lines)]
    continued = bytearray(lines)
    for entry, value in zip(entries, hashes, strict=True):
        for probe in range(min(abi.HASH_PROBES, lines)):
            at = (value + probe) & (lines - 1)
            if len(buckets[at]) < room:
                buckets[at].append(entry)
                break
            continued[at] = 1
        else:
            return None
    return buckets, continued


def _hash4(bucket: _Line, is_continued: int) -> bytes:
    keys = b"".join(key for key, _ in bucket).ljust(48, b"\0")
    rules = [rule for _, rule in bucket] + [0] * (3 - len(bucket))
    return abi.HASH4.pack(keys, *rules, len(bucket) | is_continued * abi.HASH_CONTINUES)


def _hash6(bucket: _Line, is_continued: int) -> bytes:
    key, rule = bucket[0] if bucket else (b"", 0)
    return abi.HASH6.pack(key, rule, len(bucket) | is_continued * abi.HASH_CONTINUES)


@dataclass(frozen=True, slots=True)
class RangeLines:
    """Ranges in lines: the index, then the ranges, then their rules if they differ.

    ``origin`` and ``shift`` say in which of the ``buckets`` of the index an address is.
    ``entries`` and ``rules`` are the first lines of the ranges and of their rules; if ``rules`` is
    0, all ``count`` ranges have the one ``rule``. There is room for other ranges from number
    ``room`` to ``count``.
    """

    lines: bytes
    origin: int
    shift: int
    buckets: int
    entries: int
    rules: int
    rule: int
    count: int
    room: int

    def describe(self, first: int, protocol: int) -> bytes:
        """The description of the ranges for a step, if the lines begin at line `first`."""
        return abi.RANGES.pack(
            self.origin,
            self.buckets,
            first,
            first + self.entries,
            first + self.rules if self.rules else 0,
            self.count,
            self.shift,
            protocol,
        )


def prefix(address: int, length: int, rule: int) -> int:
    """A prefix with the number of its rule, as one integer that sorts by address, then length.

    A million integers sort in half the time of as many tuples, and take half the memory.
    """
    return (address << 8 | length) << 32 | rule


def disjoint(family: Family, prefixes: list[int]) -> tuple[Numbers, Numbers, array[int]]:
    """The first and last addresses and the rules of the ranges that cover `prefixes`; sorts these.

    Each address has the rule of the narrowest prefix that it is in, because that one decides.
    """
    prefixes.sort()
    bits = family.bits
    spans = [(1 << (bits - length)) - 1 for length in range(bits + 1)]
    firsts: Numbers = array("I") if family is Family.IPV4 else []
    lasts: Numbers = array("I") if family is Family.IPV4 else []
    rules = array("I")
    if len({packed & 0xFFFFFFFF for packed in prefixes}) == 1:
        # Lists of one rule, which may be long, take half the time here: only the widest count.
        end = -1
        for packed in prefixes:
            first = packed >> 40
            if first > end:
                end = first + spans[packed >> 32 & 0xFF]
                firsts.append(first)
                lasts.append(end)
        return firsts, lasts, array("I", [prefixes[0] & 0xFFFFFFFF]) * len(firsts)
    # The last addresses and the rules of the prefixes in which the next may lie, widest first.
    enclosing: list[tuple[int, int]] = []
    covered = -1
    for packed in itertools.chain(prefixes, [1 << bits + 40]):
        first, rule = packed >> 40, packed & 0xFFFFFFFF
        while enclosing and enclosing[-1][0] < first:
            end, outer = enclosing.pop()
            if end > covered:
                firsts.append(covered + 1)
                lasts.append(end)
                rules.append(outer)
                covered = end
        if enclosing:
            outer = enclosing[-1][1]
            if outer == rule:
                continue
            if first > covered + 1:
                firsts.append(covered + 1)
                lasts.append(first - 1)
                rules.append(outer)
        enclosing.append((first + spans[packed >> 32 & 0xFF], rule))
        covered = first - 1
    return firsts, lasts, rules


def range_lines(family: Family, prefixes: list[int], *, spare: int = 0) -> RangeLines:
    """Lines that hold the ranges which cover `prefixes` (see ``disjoint``), which it uses up.

    With room for `spare` other ranges, all `prefixes` must have one rule.
    """
    firsts, lasts, rules = disjoint(family, prefixes)
    # A million of them are 40 MB.
    prefixes.clear()
    count = len(firsts)
    if count + spare >= 1 << 26:
        raise LimitExceeded(
            f"a list of {count} address ranges is longer than {1 << 26}", "split the policy"
        )
    upper = 0 if family is Family.IPV4 else 64
    origin = firsts[0] >> upper
    span = (lasts[-1] >> upper) - origin
    bits = family.bits - upper
    if spare and span >> bits - 2:
        # It takes no more buckets than there may be, and whatever comes has one.
        origin, span = 0, (1 << bits) - 1
    shift = 0
    while span >> shift >= min(_MAX_BUCKETS, 2 * count):
        shift += 1
    index, widest = _index(firsts, lasts, upper, origin, shift, (span >> shift) + 1)
    # The windows of the last buckets reach behind the last range: more of it come before the room.
    padding = widest if spare else 0
    if family is Family.IPV4:
        entries = array("I", [0]) * (2 * count)
        entries[0::2] = array("I", firsts)
        entries[1::2] = array("I", lasts)
    else:
        entries = array("Q", [0]) * (4 * count)
        low = (1 << 64) - 1
        for place, numbers in enumerate((firsts, lasts)):
            entries[2 * place :: 4] = array("Q", [number >> 64 for number in numbers])
            entries[2 * place + 1 :: 4] = array("Q", [number & low for number in numbers])
    numbers_a_range = len(entries) // count
    entries += entries[-numbers_a_range:] * padding
    room = count + padding
    count = room + spare
    entries += array(entries.typecode, bytes(spare * numbers_a_range * entries.itemsize))
    same = min(rules) == max(rules)
    parts = [_padded(index), _padded(entries)]
    at_entries = len(parts[0]) // abi.LINE
    at_rules = 0 if same else at_entries + len(parts[1]) // abi.LINE
    if not same:
        parts.append(_padded(rules))
    return RangeLines(
        b"".join(parts), origin, shift, len(index), at_entries, at_rules, rules[0], count, room
    )


def _index(
    firsts: Numbers, lasts: Numbers, upper: int, origin: int, shift: int, buckets: int
) -> tuple[array[int], int]:
    """For each bucket the first range that reaches into it, and log2 of how many do.

    The second value is the most that reach into one bucket.
    """
    starts = array("I", [0]) * buckets
    counts = array("I", [0]) * buckets
    for number, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        bucket = ((first >> upper) - origin) >> shift
        last_bucket = ((last >> upper) - origin) >> shift
        while bucket <= last_bucket:
            if not counts[bucket]:
                starts[bucket] = number
            counts[bucket] += 1
            bucket += 1
    words = (
        first << 5 | ((count - 1).bit_length() if count else abi.NO_RANGES)
        for first, count in zip(starts, counts, strict=True)
    )
    return array("I", words), max(counts)


def _padded(numbers: array[int]) -> bytes:
    data = numbers.tobytes()
    return data + bytes(-len(data) % abi.LINE)
