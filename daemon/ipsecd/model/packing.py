"""Owns making packed lists of entries in any order, and of other lists; must not know texts.

Lists are put together piece by piece: so a million entries never are a million objects at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ipsecd.model.lists import FEW, AddressList, Form, place, split
from ipsecd.model.sorting import in_order

PIECE = 1 << 12
"""How many entries are objects at a time."""


class Packing:
    """Entries on the way to a list, by form, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: dict[Form, bytearray] = {}
        self.count = 0
        """How many entries were put in, those that are repeated too."""

    def put(self, form: Form, entries: bytes) -> int:
        """Put packed entries in, in any order; returns how many had bits set behind the prefix.

        These bits are cleared.
        """
        cleared, wrong = without_host_bits(form, entries)
        self.add(form, cleared)
        return wrong

    def add(self, form: Form, entries: bytes) -> None:
        """The same for entries that have no such bits set."""
        if entries:
            self.count += len(entries) // form.width
            self._entries.setdefault(form, bytearray()).extend(entries)

    def packed(self) -> AddressList:
        """The list of all that was put in, of which nothing is left here."""
        entries, self._entries = self._entries, {}
        return AddressList({f: in_order(entries.pop(f), f.width) for f in sorted(entries)})


def united(lists: Iterable[AddressList]) -> AddressList:
    """The entries that are in any of `lists`."""
    runs: dict[Form, list[bytes]] = {}
    for addresses in lists:
        for form, packed in addresses.entries.items():
            runs.setdefault(form, []).append(packed)
    return AddressList({form: b"".join(_merged(runs[form], form.width)) for form in sorted(runs)})


def changed(addresses: AddressList, gone: AddressList, come: AddressList) -> AddressList:
    """The entries of a list without some that go, and with others that come."""
    if len(gone) + len(come) <= FEW:
        return addresses.changed_in_few(gone, come)
    return united((without(addresses, gone), come))


def without(addresses: AddressList, removed: AddressList) -> AddressList:
    """The entries of one list that are not in another."""
    if len(removed) <= FEW:
        return addresses.changed_in_few(removed, AddressList())
    if len(addresses) <= FEW:
        # Each is looked for, so that it costs the same however long the other list is.
        layers = removed.layers
        left = {
            form: b"".join(e for e in split(packed, form.width) if not layers.holds(form, e))
            for form, packed in addresses.entries.items()
        }
        return AddressList({form: packed for form, packed in left.items() if packed})
    left = {}
    for form, packed in addresses.entries.items():
        gone = removed.entries.get(form, b"")
        if kept := b"".join(_kept(packed, gone, form.width)) if gone else packed:
            left[form] = kept
    return AddressList(left)


def shared(first: AddressList, second: AddressList) -> AddressList:
    """The entries that are in both lists."""
    return without(first, without(first, second))


def without_host_bits(form: Form, entries: bytes) -> tuple[bytes, int]:
    """Packed entries with the bits behind the prefix cleared, and how many had any."""
    dropped = form.family.bits - form.length
    if not dropped:
        return entries, 0
    kept = (((1 << form.length) - 1) << dropped).to_bytes(form.width, "big")
    # One number of all entries is masked some hundred times faster than each by itself.
    whole = int.from_bytes(entries, "big")
    masked = whole & int.from_bytes(kept * (len(entries) // form.width), "big")
    if masked == whole:
        return entries, 0
    cleared = masked.to_bytes(len(entries), "big")
    return cleared, sum(map(bytes.__ne__, split(entries, form.width), split(cleared, form.width)))


def _merged(runs: Sequence[bytes], width: int) -> Iterator[bytes]:
    """The entries of sorted runs in order, each once, in pieces."""
    for parts in _pieces(runs, width):
        filled = [part for part in parts if part]
        if all(part == filled[0] for part in filled[1:]):
            yield filled[0]
        else:
            yield b"".join(sorted({entry for part in filled for entry in split(part, width)}))


def _kept(packed: bytes, gone: bytes, width: int) -> Iterator[bytes]:
    """The entries of one run that are not in another, in pieces."""
    for present, removed in _pieces((packed, gone), width):
        if not removed:
            yield present
        elif present != removed:
            entries = set(split(removed, width))
            yield b"".join(entry for entry in split(present, width) if entry not in entries)


def _pieces(runs: Sequence[bytes], width: int) -> Iterator[tuple[bytes, ...]]:
    """Sorted runs cut at the same values, into parts that are small, equal or of one run."""
    uncut = [tuple(runs)]
    while uncut:
        parts = uncut.pop()
        filled = [part for part in parts if part]
        if not filled:
            continue
        longest = max(filled, key=len)
        if (
            len(longest) == width
            or sum(map(len, filled)) <= PIECE * width
            or all(part == longest for part in filled)
        ):
            yield parts
            continue
        middle = len(longest) // width // 2 * width
        pivot = longest[middle : middle + width]
        places = [width * place(part, pivot) for part in parts]
        uncut.append(tuple(part[at:] for part, at in zip(parts, places, strict=True)))
        uncut.append(tuple(part[:at] for part, at in zip(parts, places, strict=True)))
