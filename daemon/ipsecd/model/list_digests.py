"""Owns the digest of the entries of a list, which a few other entries change at a small cost.

The entries of one IP version and prefix length are divided into blocks by their first bits alone,
and the digest is the sum of the digests of all blocks that are not empty. So equal entries have
equal digests, whatever the order of the changes that led to them, and one entry more costs the
digest of its block twice.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from sys import byteorder
from typing import Protocol

from ipsecd.model.addresses import Family

DIGESTS = 1 << 256
"""Sums are taken modulo this."""
_BLOCK_BITS = {Family.IPV4: 10, Family.IPV6: 24}
"""The bits that say in which block an address is. A million addresses that are spread over all of
IPv4 have a thousand in a block; of IPv6, few blocks of the first bits are in use at all."""


class HasForm(Protocol):
    """What says how entries are packed: IP version and prefix length."""

    @property
    def family(self) -> Family:
        """The IP version."""

    @property
    def length(self) -> int:
        """The prefix length."""


def block_of(form: HasForm, entry: bytes) -> tuple[int, bytes, bytes]:
    """The number of the block that an entry is in, and the first and last entry it can have."""
    return _block(form.family, _number(form.family, entry))


def block_digest(form: HasForm, number: int, packed: bytes) -> int:
    """The digest of the entries of one block, as a number; 0 if there are none."""
    if not packed:
        return 0
    hasher = hashlib.sha256(b"%d/%d/%d:" % (form.family, form.length, number))
    hasher.update(packed)
    return int.from_bytes(hasher.digest(), "big")


def blocks_sum(form: HasForm, packed: bytes) -> int:
    """The sum of the digests of all blocks of packed entries."""
    width, shift = form.family.bits // 8, 32 - _BLOCK_BITS[form.family]
    total = at = 0
    firsts = _first_words(packed, width)
    count = len(firsts)
    # A list has thousands of blocks, so nothing is done here for each that need not be.
    while at < count:
        number = firsts[at] >> shift
        end = bisect_left(firsts, number + 1 << shift, at)
        total += block_digest(form, number, packed[at * width : end * width])
        at = end
    return total


def _number(family: Family, entry: bytes) -> int:
    return int.from_bytes(entry[:4], "big") >> (32 - _BLOCK_BITS[family])


def _block(family: Family, number: int) -> tuple[int, bytes, bytes]:
    shift = family.bits - _BLOCK_BITS[family]
    first = number << shift
    width = family.bits // 8
    last = first | (1 << shift) - 1
    return number, first.to_bytes(width, "big"), last.to_bytes(width, "big")


def _first_words(packed: bytes, width: int) -> array[int]:
    """The first 32 bits of each entry, as numbers."""
    words = array("I", packed)
    if byteorder == "little":
        words.byteswap()
    return words[:: width // 4]
