"""Owns the entries of address lists, packed; must not know how they are written or enforced.

A list is a set of addresses and prefixes of both IP versions, which may be millions. So nothing
here makes an object of an entry: the entries of one IP version and prefix length are bytes, end to
end. Entries that overlap or adjoin stay themselves, so that each can be removed.

A list that differs from another in a few entries shares the packed entries of that one and has the
difference beside them, so that one entry more costs the same in a list of ten and of a million.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ipsecd.model.addresses import Family, Network
from ipsecd.model.list_digests import DIGESTS, block_digest, block_of, blocks_sum


class Form(NamedTuple):
    """What entries have in common that are packed together: IP version and prefix length."""

    family: Family
    length: int

    @property
    def width(self) -> int:
        """The length of an entry in bytes."""
        return self.family.bits // 8

    def packed(self, address: int) -> bytes:
        """The entry that `address` is in."""
        dropped = self.family.bits - self.length
        return (address >> dropped << dropped).to_bytes(self.width, "big")


class Layers(NamedTuple):
    """Packed entries, and what differs from them: entries that are gone, and those that came.

    What is ``gone`` is in the ``base``, and what ``came`` is not. A form may have empty bytes.
    """

    base: Mapping[Form, bytes]
    gone: Mapping[Form, bytes]
    came: Mapping[Form, bytes]

    def differences(self) -> int:
        """How many entries are gone or came."""
        layers = (self.gone, self.came)
        return sum(len(packed) // f.width for layer in layers for f, packed in layer.items())

    def shares_base(self, form: Form, other: Layers) -> bool:
        """Whether the packed entries of this form, if there are any, are the same object."""
        return self.base.get(form) is other.base.get(form)

    def count(self, form: Form) -> int:
        """How many entries of this form there are."""
        there = len(self.base.get(form, b"")) - len(self.gone.get(form, b""))
        return (there + len(self.came.get(form, b""))) // form.width

    def holds(self, form: Form, entry: bytes) -> bool:
        """Whether the entry is there."""
        if holds(self.came.get(form, b""), entry):
            return True
        return holds(self.base.get(form, b""), entry) and not holds(self.gone.get(form, b""), entry)

    def between(self, form: Form, first: bytes, last: bytes) -> bytes:
        """The entries from `first` to `last`, packed."""
        return self.over(_between(self.base.get(form, b""), first, last), form, first, last)

    def over(self, base: bytes, form: Form, first: bytes, last: bytes) -> bytes:
        """The same, where `base` are those of them that were packed before."""
        gone, came = (_between(layer.get(form, b""), first, last) for layer in self[1:])
        return _laid_over(base, gone, came, form.width) if gone or came else base

    def packed(self) -> dict[Form, bytes]:
        """All entries, without layers."""
        forms = sorted({*self.base, *self.came})
        packed = {form: self._whole(form) for form in forms}
        return {form: entries for form, entries in packed.items() if entries}

    def _whole(self, form: Form) -> bytes:
        base, gone, came = (layer.get(form, b"") for layer in self)
        return _laid_over(base, gone, came, form.width) if gone or came else base


class LayeredEntries(Mapping[Form, bytes]):
    """The entries of a list in layers; they are packed when they are asked for, and stay so."""

    __slots__ = ("layers",)

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def __iter__(self) -> Iterator[Form]:
        layers = self.layers
        return iter(sorted(f for f in {*layers.base, *layers.came} if layers.count(f)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, form: object) -> bool:
        return isinstance(form, Form) and self.layers.count(form) > 0

    def __getitem__(self, form: Form) -> bytes:
        if self.layers.differences():
            # Threads that come here at a time do the same, and either outcome may stay.
            self.layers = Layers(self.layers.packed(), {}, {})
        return self.layers.base[form]


class Change(NamedTuple):
    """What turns a list into another: the entries that go and those that come, packed by form."""

    removed: Mapping[Form, bytes]
    added: Mapping[Form, bytes]


@dataclass(frozen=True)
class AddressList:
    """The entries of a list.

    ``entries`` holds for each form the entries in network byte order, ascending, each once, end to
    end; a form without entries is left out. Bits behind the prefix are 0.
    """

    entries: Mapping[Form, bytes] = field(default_factory=dict)

    @property
    def layers(self) -> Layers:
        """The entries, with what is not packed yet beside those that are."""
        entries = self.entries
        return entries.layers if isinstance(entries, LayeredEntries) else Layers(entries, {}, {})

    @cached_property
    def forms(self) -> frozenset[Form]:
        """The forms of its entries."""
        return frozenset(self.entries)

    def count(self, form: Form) -> int:
        """How many entries of this form it has."""
        return self.layers.count(form)

    def __len__(self) -> int:
        return sum(map(self.layers.count, self.entries))

    def __contains__(self, network: object) -> bool:
        """Whether the network itself is an entry; a wider entry that covers it does not count."""
        assert isinstance(network, Network)
        return self.holds(Form(network.family, network.length), network.address)

    @cached_property
    def digest(self) -> str:
        """A digest of all entries, in hexadecimal: equal entries, equal digest."""
        return f"{sum(self._sums.values()) % DIGESTS:064x}"

    def digest_of(self, form: Form) -> str:
        """A digest of the entries of one form, in hexadecimal."""
        return f"{self._sums.get(form, 0):064x}"

    @cached_property
    def _sums(self) -> dict[Form, int]:
        packed = self.layers.packed()
        return {form: blocks_sum(form, entries) % DIGESTS for form, entries in packed.items()}

    def take_digest_of(self, same: AddressList) -> None:
        """Have the digest of a list of the same entries, if that one has worked it out."""
        if "_sums" in same.__dict__:
            self.__dict__["_sums"] = same.__dict__["_sums"]

    def holds(self, form: Form, address: int) -> bool:
        """Whether an entry of this form covers the address."""
        return self.layers.holds(form, form.packed(address))

    def changed_in_few(self, gone: AddressList, come: AddressList) -> AddressList:
        """This list without some entries and then with others, which are few.

        Entries may be named that are not in it, or are already. It costs the same however long the
        list is, but for one time in ``FEW`` changes, when all entries are packed anew.
        """
        old = self.layers
        layers = Layers(old.base, dict(old.gone), dict(old.came))
        turned: dict[tuple[Form, bytes], int] = {}
        for named, is_wanted in ((gone, False), (come, True)):
            for form, packed in named.entries.items():
                for entry in split(packed, form.width):
                    in_base = holds(layers.base.get(form, b""), entry)
                    turned_layer = layers.gone if in_base else layers.came
                    if (in_base is not holds(turned_layer.get(form, b""), entry)) is not is_wanted:
                        _turn(turned_layer, form, entry)
                        turned[form, entry] = turned.get((form, entry), 0) + 2 * is_wanted - 1
        if not turned:
            return self
        new = AddressList(layers.packed() if layers.differences() > FEW else LayeredEntries(layers))
        self._note_change(new, turned)
        if "_sums" in self.__dict__:
            sums = dict(self._sums)
            for form, number, *ends in {(f, *block_of(f, entry)) for f, entry in turned}:
                base = _between(old.base.get(form, b""), *ends)
                before, after = (each.over(base, form, *ends) for each in (old, layers))
                other = block_digest(form, number, after) - block_digest(form, number, before)
                sums[form] = (sums.get(form, 0) + other) % DIGESTS
            new.__dict__["_sums"] = sums
        return new

    def _note_change(self, target: AddressList, turned: Mapping[tuple[Form, bytes], int]) -> None:
        """Have the answer of ``change_of`` for a list to which few entries lead.

        An entry is `turned` by -1 if it goes, by 1 if it comes, and by 0 if it does both.
        """
        changes = {form: (b"", b"") for form, _ in turned}
        for (form, entry), by in sorted(turned.items()):
            gone, come = changes[form]
            changes[form] = (gone + entry * (by < 0), come + entry * (by > 0))
        self.__dict__["_changes"] = weakref.ref(target), changes

    def lengths(self, family: Family) -> tuple[int, ...]:
        """The prefix lengths of its entries of one IP version, the longest first."""
        return tuple(sorted((f.length for f in self.entries if f.family is family), reverse=True))

    def covering(self, family: Family, address: int) -> Iterator[int]:
        """The prefix lengths of the entries that an address is in, the longest first."""
        for length in self.lengths(family):
            if self.holds(Form(family, length), address):
                yield length

    def sharing(self, network: Network) -> Iterator[Network]:
        """The entries that share an address with a network: around it, the widest first, or in it.

        It costs a search for each prefix length, however many entries there are.
        """
        last = network.address | (1 << network.family.bits - network.length) - 1
        for form in sorted(self.entries):
            if form.family is not network.family:
                continue
            first, end = form.packed(network.address), form.packed(last)
            for entry in split(self.layers.between(form, first, end), form.width):
                yield Network(form.family, int.from_bytes(entry, "big"), form.length)

    def networks(self) -> Iterator[Network]:
        """Every entry as an object: IPv4 first, the shortest prefixes first, ascending."""
        for form in sorted(self.entries):
            for entry in split(self.entries[form], form.width):
                yield Network(form.family, int.from_bytes(entry, "big"), form.length)

    def change_to(self, target: AddressList) -> Change:
        """What turns this list into `target`."""
        removed, added = {}, {}
        for form in {*self.entries, *target.entries}:
            gone, come = self.change_of(form, target)
            if gone:
                removed[form] = gone
            if come:
                added[form] = come
        return Change(removed, added)

    def change_of(self, form: Form, target: AddressList) -> tuple[bytes, bytes]:
        """The entries of one form that go and those that come if this list becomes `target`.

        This is worked out once for the target that was asked for last, however many ask.
        """
        target_before, changes = self.__dict__.get("_changes", (None, {}))
        if target_before is None or target_before() is not target:
            changes = {}
            # A weak reference, as a list that was refused must not stay in memory.
            self.__dict__["_changes"] = weakref.ref(target), changes
        if form not in changes:
            changes[form] = self._change_of(form, target)
        change: tuple[bytes, bytes] = changes[form]
        return change

    def _change_of(self, form: Form, target: AddressList) -> tuple[bytes, bytes]:
        old, new, width = self.layers, target.layers, form.width
        if not old.shares_base(form, new):
            return difference(self.entries.get(form, b""), target.entries.get(form, b""), width)
        again, gone = difference(old.gone.get(form, b""), new.gone.get(form, b""), width)
        left, came = difference(old.came.get(form, b""), new.came.get(form, b""), width)
        return _sorted(gone, left, width), _sorted(again, came, width)

    def is_same(self, form: Form, other: AddressList) -> bool:
        """Whether both have the same entries of one form."""
        old, new = self.layers, other.layers
        if old.shares_base(form, new):
            return self is other or all(
                a.get(form, b"") == b.get(form, b"") for a, b in zip(old[1:], new[1:], strict=True)
            )
        if old.count(form) != new.count(form):
            return False
        return self.entries.get(form) == other.entries.get(form)


NO_ENTRIES = AddressList()
"""The list that has none."""


def listed(networks: Iterable[Network]) -> AddressList:
    """The list of `networks`, in any order and perhaps more than once."""
    by_form: dict[Form, set[bytes]] = {}
    for network in networks:
        form = Form(network.family, network.length)
        by_form.setdefault(form, set()).add(form.packed(network.address))
    return AddressList({form: b"".join(sorted(by_form[form])) for form in sorted(by_form)})


FEW = 256
"""The most entries that a list has beside those that are packed."""
_COMPARED = 64
"""So many entries are compared one by one; of more, both halves are looked at, if they differ."""


def difference(present: bytes, wanted: bytes, width: int) -> tuple[bytes, bytes]:
    """The entries of one form that are only in `present`, and those that are only in `wanted`.

    It costs the less the fewer they are: most of a long list is compared or taken as bytes.
    """
    removed: list[bytes] = []
    added: list[bytes] = []
    halves = [(present, wanted)]
    while halves:
        old, new = halves.pop()
        if old == new:
            continue
        if not old or not new:
            removed.append(old)
            added.append(new)
            continue
        if len(old) + len(new) <= _COMPARED * width:
            before, after = set(split(old, width)), set(split(new, width))
            removed += sorted(before - after)
            added += sorted(after - before)
            continue
        # No step makes objects of many entries at a time: nothing else would run meanwhile.
        longer, other = (old, new) if len(old) > len(new) else (new, old)
        at = len(longer) // width // 2 * width
        there = place(other, longer[at : at + width]) * width
        at, there = (at, there) if longer is old else (there, at)
        halves += [(old[at:], new[there:]), (old[:at], new[:there])]
    return b"".join(removed), b"".join(added)


def split(packed: bytes, width: int) -> list[bytes]:
    """Each of the packed entries of `width` bytes by itself."""
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def holds(packed: bytes, entry: bytes) -> bool:
    """Whether an entry is among those that are packed."""
    width = len(entry)
    at = place(packed, entry) * width
    return packed[at : at + width] == entry


def place(packed: bytes, entry: bytes) -> int:
    """How many of the entries that are packed stand before `entry`."""
    width = len(entry)
    starts = range(0, len(packed), width)
    return bisect_left(starts, entry, key=lambda at: packed[at : at + width]) if packed else 0


def _between(packed: bytes, first: bytes, last: bytes) -> bytes:
    """The packed entries from `first` to `last`."""
    width = len(first)
    begin, end = place(packed, first) * width, place(packed, last) * width
    return packed[begin : end + width if packed[end : end + width] == last else end]


def _turn(layer: Mapping[Form, bytes], form: Form, entry: bytes) -> None:
    """Have a layer, which nobody else has yet, be without an entry that it has, or with it."""
    assert isinstance(layer, dict)
    packed = layer.get(form, b"")
    at = place(packed, entry) * form.width
    behind = at + form.width if packed[at : at + form.width] == entry else at
    layer[form] = packed[:at] + (b"" if behind > at else entry) + packed[behind:]


def _laid_over(base: bytes, gone: bytes, came: bytes, width: int) -> bytes:
    """The entries of `base` without those that are gone, and with those that came."""
    parts = []
    begin = 0
    leaving = set(split(gone, width))
    for entry in sorted([*leaving, *split(came, width)]):
        at = place(base, entry) * width
        parts.append(base[begin:at])
        begin = at
        if entry in leaving:
            begin += width
        else:
            parts.append(entry)
    return b"".join((*parts, base[begin:]))


def _sorted(first: bytes, second: bytes, width: int) -> bytes:
    """The entries of both, which are sorted and have none in common."""
    if not first or not second:
        return first or second
    return b"".join(sorted(split(first + second, width)))
