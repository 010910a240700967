"""Owns sets of whole numbers; must not know what the numbers stand for.

A set is spans, ascending and apart from each other, or the entries of a list as they are packed:
a million of these never become a million objects.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any

from ipsecd.model.lists import Form

Span = tuple[int, int]
"""The first and the last of numbers that follow one another."""
Spans = tuple[Span, ...]


def united(spans: Iterable[Span]) -> Spans:
    """The spans that hold the same numbers, ascending and apart from each other."""
    apart: list[Span] = []
    for first, last in sorted(spans):
        if apart and first <= apart[-1][1] + 1:
            if last > apart[-1][1]:
                apart[-1] = (apart[-1][0], last)
        else:
            apart.append((first, last))
    return tuple(apart)


@dataclass(frozen=True, slots=True, eq=False)
class Entries(Sequence[Span]):
    """The entries of one form that a list has, each a span."""

    packed: bytes
    form: Form

    def __len__(self) -> int:
        return len(self.packed) // self.form.width

    def __getitem__(self, place: Any) -> Any:
        first = self.first(range(len(self))[place])
        return first, first + self.size - 1

    @property
    def size(self) -> int:
        """How many addresses an entry covers."""
        return 1 << (self.form.family.bits - self.form.length)

    def first(self, place: int) -> int:
        """The first address of an entry."""
        width = self.form.width
        return int.from_bytes(self.packed[place * width : (place + 1) * width], "big")

    def within(self, first: int, last: int) -> range:
        """The places of the entries that share an address with a span."""
        places = range(len(self))
        return range(
            bisect_left(places, first - self.size + 1, key=self.first),
            bisect_right(places, last, key=self.first),
        )

    def split(self, first: int, last: int) -> Iterator[tuple[Span, bool]]:
        """A span in its entries, and one in a gap between them; what there is of both.

        Each comes with whether it is of entries. It costs a few searches, however many there are.
        """
        places = self.within(first, last)
        if not places:
            yield (first, last), False
            return
        entry_first, entry_last = self[places[0]]
        yield (max(first, entry_first), min(last, entry_last)), True
        if entry_first > first:
            yield (first, entry_first - 1), False
            return
        # The entries that follow the first one without a gap end where they lag behind.
        run = bisect_right(
            places,
            0,
            key=lambda place: self.first(place) - entry_first - self._span_to(place, places),
        )
        end = self[places[run - 1]][1]
        if end < last:
            behind = self.first(places[run]) - 1 if run < len(places) else last
            yield (end + 1, min(last, behind)), False

    def _span_to(self, place: int, places: range) -> int:
        return (place - places.start) * self.size


def patterns(
    sets: Sequence[tuple[int, Sequence[Span]]], first: int, last: int
) -> Iterator[tuple[Span, int]]:
    """A span cut where any of some sets begins or ends, and which sets hold each piece.

    Sets come as pairs of a bit and spans; a piece has the bits of the sets that hold it. Pieces
    end as soon as there is one for every combination.
    """
    if len(sets) == 1 and isinstance(sets[0][1], Entries):
        bit, entries = sets[0]
        assert isinstance(entries, Entries)
        yield from ((span, bit if inside else 0) for span, inside in entries.split(first, last))
        return
    begin, held = first, 0
    seen: set[int] = set()
    for at, bit in merge(*(_edges(bit, spans, first, last) for bit, spans in sets)):
        if at > begin:
            seen.add(held)
            yield (begin, at - 1), held
            begin = at
            if len(seen) == 1 << len(sets):
                return
        held ^= bit
    yield (begin, last), held


def _edges(bit: int, spans: Sequence[Span], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Where a set begins and ends within a span, in order."""
    places: Iterable[int] = range(len(spans))
    if isinstance(spans, Entries):
        places = spans.within(first, last)
    for place in places:
        begins, ends = spans[place]
        if ends >= first and begins <= last:
            yield max(begins, first), bit
            if ends < last:
                yield ends + 1, bit


def share(one: Sequence[Span], other: Sequence[Span]) -> bool:
    """Whether two sets have a number in common."""
    few, many = sorted((one, other), key=len)
    if isinstance(many, Entries):
        return any(many.within(first, last) for first, last in few)
    return any(
        place < len(many) and many[place][0] <= last
        for first, last in few
        for place in [bisect_left(many, first, key=lambda span: span[1])]
    )
