"""Owns the form in which a list is kept and sent: its packed entries as bytes; pure.

For each IP version and prefix length there is that, the number of entries, and the entries. Equal
lists have equal bytes, and other bytes than those that ``pack`` gives are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from operator import ge

from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form, split

MAX_CARRIED = 100
"""How many lists a policy of a domain can carry."""
MAX_CARRIED_BYTES = 64 << 20
"""How long they may be together: some 16 million IPv4 or four million IPv6 entries."""
_HEADER = struct.Struct(">BBQ")
"""IP version, prefix length, number of entries."""
_PIECE = 1 << 14
"""How many entries are objects at a time."""


def pack(addresses: AddressList) -> bytes:
    """The bytes of a list."""
    pieces = []
    for form in sorted(addresses.entries):
        packed = addresses.entries[form]
        pieces += [_HEADER.pack(form.family, form.length, len(packed) // form.width), packed]
    return b"".join(pieces)


def unpack(content: bytes) -> AddressList:
    """The list that `content` is the bytes of; raises ``ValueError`` if it is those of none."""
    entries: dict[Form, bytes] = {}
    for form, packed in _parts(content):
        if entries and form <= max(entries):
            raise ValueError("its entries are not in order")
        entries[form] = packed
    return AddressList(entries)


def unpack_strictly(content: bytes) -> AddressList:
    """The same for bytes that others have made: that entries are in order is not believed."""
    addresses = unpack(content)
    for form, packed in addresses.entries.items():
        if _has_host_bits(form, packed):
            raise ValueError("an entry has bits set behind its prefix length")
        if not _ascends(packed, form.width):
            raise ValueError("its entries are not in order")
    return addresses


def _parts(content: bytes) -> Iterator[tuple[Form, bytes]]:
    at = 0
    while at < len(content):
        if len(content) - at < _HEADER.size:
            raise ValueError("it ends in the middle of an entry")
        version, length, count = _HEADER.unpack_from(content, at)
        form = Form(Family(version), length)
        at += _HEADER.size
        packed = content[at : at + count * form.width]
        at += len(packed)
        if not count or len(packed) != count * form.width or length > form.family.bits:
            raise ValueError("its entries are not what their number says")
        yield form, packed


def _has_host_bits(form: Form, packed: bytes) -> bool:
    """Whether any entry has a bit set behind the prefix; looks at each byte of entries as one."""
    whole, bits = divmod(form.length, 8)
    mask = 0xFF >> bits
    for place in range(whole, form.width):
        behind = mask if place == whole else 0xFF
        if any(value & behind for value in set(packed[place :: form.width])):
            return True
    return False


def _ascends(packed: bytes, width: int) -> bool:
    """Whether each entry is greater than the one before it."""
    step = _PIECE * width
    for begin in range(0, len(packed), step):
        piece = split(packed[begin : begin + step + width], width)
        if any(map(ge, piece, islice(piece, 1, None))):
            return False
    return True
