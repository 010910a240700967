"""Owns the entries of address lists, packed; must not know how they are written or enforced.

A list is a set of addresses and prefixes of both IP versions, which may be millions. So nothing
here makes an object of an entry: the entries of one IP version and prefix length are bytes, end to
end. Entries that overlap or adjoin stay themselves, so that each can be removed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ipsecd.model.addresses import Family, Network


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

    def __len__(self) -> int:
        return sum(len(packed) // form.width for form, packed in self.entries.items())

    def __contains__(self, network: object) -> bool:
        """Whether the network itself is an entry; a wider entry that covers it does not count."""
        assert isinstance(network, Network)
        return self.holds(Form(network.family, network.length), network.address)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all entries, in hexadecimal: equal entries, equal digest."""
        hasher = hashlib.sha256()
        for form in sorted(self.entries):
            packed = self.entries[form]
            hasher.update(f"{form.family.value}/{form.length}:{len(packed)};".encode())
            hasher.update(packed)
        return hasher.hexdigest()

    def holds(self, form: Form, address: int) -> bool:
        """Whether an entry of this form covers the address."""
        return _holds(self.entries.get(form, b""), form.packed(address))

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
            packed, width = self.entries[form], form.width
            begin = place(packed, form.packed(network.address))
            wanted = form.packed(last)
            for at in range(begin * width, len(packed), width):
                entry = packed[at : at + width]
                if entry > wanted:
                    break
                yield Network(form.family, int.from_bytes(entry, "big"), form.length)

    def networks(self) -> Iterator[Network]:
        """Every entry as an object: IPv4 first, the shortest prefixes first, ascending."""
        for form in sorted(self.entries):
            for entry in split(self.entries[form], form.width):
                yield Network(form.family, int.from_bytes(entry, "big"), form.length)

    def change_to(self, target: AddressList) -> Change:
        """What turns this list into `target`."""
        removed, added = {}, {}
        for form in self.entries.keys() | target.entries.keys():
            present, wanted = self.entries.get(form, b""), target.entries.get(form, b"")
            if present == wanted:
                continue
            gone, come = difference(present, wanted, form.width)
            if gone:
                removed[form] = gone
            if come:
                added[form] = come
        return Change(removed, added)


def listed(networks: Iterable[Network]) -> AddressList:
    """The list of `networks`, in any order and perhaps more than once."""
    by_form: dict[Form, set[bytes]] = {}
    for network in networks:
        form = Form(network.family, network.length)
        by_form.setdefault(form, set()).add(form.packed(network.address))
    return AddressList({form: b"".join(sorted(by_form[form])) for form in sorted(by_form)})


_FEW = 32
"""So many entries are compared one by one; of more, both halves are looked at, if they differ."""


def difference(present: bytes, wanted: bytes, width: int) -> tuple[bytes, bytes]:
    """The entries of one form that are only in `present`, and those that are only in `wanted`.

    It costs the less the fewer they are: most of a long list is compared as bytes.
    """
    removed: list[bytes] = []
    added: list[bytes] = []
    halves = [(present, wanted)]
    while halves:
        old, new = halves.pop()
        if old == new:
            continue
        if not old or not new or len(old) <= _FEW * width:
            before, after = set(split(old, width)), set(split(new, width))
            removed += sorted(before - after)
            added += sorted(after - before)
            continue
        middle = len(old) // width // 2 * width
        at = place(new, old[middle : middle + width]) * width
        halves += [(old[middle:], new[at:]), (old[:middle], new[:at])]
    return b"".join(removed), b"".join(added)


def split(packed: bytes, width: int) -> list[bytes]:
    """Each of the packed entries of `width` bytes by itself."""
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def _holds(packed: bytes, entry: bytes) -> bool:
    """Whether an entry is among those that are packed."""
    width = len(entry)
    at = place(packed, entry) * width
    return packed[at : at + width] == entry


def place(packed: bytes, entry: bytes) -> int:
    """How many of the entries that are packed stand before `entry`."""
    width = len(entry)
    return bisect_left(
        range(len(packed) // width), entry, key=lambda n: packed[n * width : (n + 1) * width]
    )
