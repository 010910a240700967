"""Owns sorting packed entries; must not know what they are the entries of.

The C library sorts many entries where they lie, a million in some tenth of a second and without an
object for each, while other threads go on. Python sorts a few, and all where that library has no
``qsort_r`` (qsort_r(3)).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache

MANY = 1 << 10
"""From so many entries on the C library sorts them."""
PIECE = 1 << 16
"""How many entries are one number at a time."""


def in_order(entries: bytes | bytearray, width: int) -> bytes:
    """The entries of `width` bytes that lie end to end in `entries`, ascending and each once.

    A bytearray is sorted in place.
    """
    sort = _sort_of_c_library() if len(entries) >= MANY * width else None
    if sort is None:
        each = {bytes(entries[at : at + width]) for at in range(0, len(entries), width)}
        return b"".join(sorted(each))
    own = entries if isinstance(entries, bytearray) else bytearray(entries)
    sort(own, width)
    return _each_once(bytes(own), width)


@lru_cache
def _sort_of_c_library() -> Callable[[bytearray, int], None] | None:
    """What sorts entries in place; None where the C library cannot.

    Elsewhere than on Linux there are functions of this name that take other arguments.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    try:
        qsort_r, memcmp = library.qsort_r, library.memcmp
    except AttributeError:
        return None
    size = ctypes.c_size_t
    qsort_r.argtypes = (ctypes.c_void_p, size, size, ctypes.c_void_p, ctypes.c_void_p)
    qsort_r.restype = None
    # It is given two entries and the last argument of qsort_r, which is how much to compare.
    compare = ctypes.cast(memcmp, ctypes.c_void_p)

    def sort(entries: bytearray, width: int) -> None:
        first = ctypes.c_char.from_buffer(entries)
        qsort_r(ctypes.byref(first), len(entries) // width, width, compare, width)

    return sort


def _each_once(packed: bytes, width: int) -> bytes:
    """Sorted entries without those that are repeated."""
    parts = []
    begin = 0
    for at in _repeated(packed, width):
        parts.append(packed[begin:at])
        begin = at + width
    return b"".join((*parts, packed[begin:])) if parts else packed


def _repeated(packed: bytes, width: int) -> Iterator[int]:
    """Where entries lie that are equal to those before them."""
    none = bytes(width)
    for begin in range(0, len(packed), PIECE * width):
        start = max(begin - width, 0)
        piece = packed[start : begin + PIECE * width]
        # One number of all entries is compared some hundred times faster than each by itself.
        number = int.from_bytes(piece, "big")
        differences = (number ^ number >> 8 * width).to_bytes(len(piece), "big")
        # The first is compared with none: in the next piece it is the last of the one before.
        at = differences.find(none, width)
        while at >= 0:
            # Zeros may also be the end of a difference and the beginning of the next one.
            at += -at % width
            if differences[at : at + width] == none:
                yield start + at
                at += width
            at = differences.find(none, at)
