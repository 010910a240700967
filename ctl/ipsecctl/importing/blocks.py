"""Owns finding spans that meet a span, of thousands; must not know what the numbers stand for.

A span is kept by the smallest aligned block that holds it: a prefix, whose size is a power of two.
Two such blocks have nothing in common, or one lies in the other. So what may meet a span is in the
blocks around its own, of which there is one of each size, and in those inside of it, which sorted
stand side by side.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ipsecctl.importing.regions import Span

Block = tuple[int, int]
"""The first number of a block, and its size in bits."""


class Found(NamedTuple):
    """Blocks that may meet a span: those around its own by their keys, those inside by place."""

    around: Sequence[dict[int, None]]
    inside: range

    @property
    def size(self) -> int:
        """How many keys and blocks are to be looked at."""
        return sum(map(len, self.around)) + len(self.inside)


class Blocks:
    """Keys by the span that each has in a dimension of so many bits; None is every number."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._keys: dict[Block, dict[int, None]] = {}
        self._sizes: dict[int, int] = {}
        """How many blocks there are of each size."""
        self._sorted: list[Block] = []

    def add(self, key: int, span: Span | None) -> None:
        """Keep a key, which must not be here yet."""
        block = self._block(span)
        if block not in self._keys:
            self._keys[block] = {}
            self._sizes[block[1]] = self._sizes.get(block[1], 0) + 1
            insort(self._sorted, block)
        self._keys[block][key] = None

    def remove(self, key: int, span: Span | None) -> None:
        """Forget a key, which was added with this span."""
        block = self._block(span)
        del self._keys[block][key]
        if not self._keys[block]:
            del self._keys[block]
            del self._sorted[bisect_left(self._sorted, block)]
            self._sizes[block[1]] -= 1
            if not self._sizes[block[1]]:
                del self._sizes[block[1]]

    def near(self, span: Span | None) -> Found:
        """Where all keys are whose spans meet `span`, and perhaps others."""
        first, bits = self._block(span)
        around = [
            keys
            for size in self._sizes
            if size >= bits and (keys := self._keys.get((first >> size << size, size)))
        ]
        at = bisect_left(self._sorted, (first, 0))
        until = bisect_left(self._sorted, (first + (1 << bits), 0))
        return Found(around, range(at, until))

    def keys(self, found: Found, span: Span | None) -> Iterator[int]:
        """The keys that ``near`` found for `span`, each once."""
        bits = self._block(span)[1]
        for keys in found.around:
            yield from keys
        for block in self._sorted[found.inside.start : found.inside.stop]:
            if block[1] < bits:
                yield from self._keys[block]

    def _block(self, span: Span | None) -> Block:
        if span is None:
            return 0, self._bits
        size = (span[0] ^ span[1]).bit_length()
        return span[0] >> size << size, size


class Names:
    """Numbers of 32 bits for names, as a dimension; a beginning with ``*`` behind it has none."""

    BITS = 32

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def span(self, pattern: str) -> Span | None:
        """The number of a name; None for a pattern that may cover several, as "" does all."""
        if not pattern or pattern.endswith("*"):
            return None
        number = self._numbers.setdefault(pattern, len(self._numbers))
        return number, number


def nearest(dimensions: Sequence[Blocks], spans: Sequence[Span | None]) -> list[int]:
    """The keys that may meet `spans`, sorted, by the dimension in which these are the fewest.

    The spans are of the dimensions in their order, in all of which the keys are.
    """
    found = ((each.near(span), each, span) for each, span in zip(dimensions, spans, strict=True))
    least, blocks, span = min(found, key=lambda one: one[0].size)
    return sorted(blocks.keys(least, span))
