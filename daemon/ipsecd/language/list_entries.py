"""Owns the text of one entry of an address list, in and out; must not know lists or files."""

from __future__ import annotations

import heapq
import socket
from collections.abc import Iterable, Iterator

from ipsecd.language.addresses import format_value, ipv4_value, ipv6_value
from ipsecd.language.quoting import is_number
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form

MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv4 address begins that is written as IPv6: ::ffff:0:0/96, RFC 4291, 2.5.5.2."""
_IPV4_IN_MAPPED = 96
_NOTHING = "is neither an address, a prefix nor a range of addresses"


def entries_in(text: str) -> list[tuple[Form, bytes]]:
    """The entries that one text stands for: an address, a prefix, or a range ``FIRST-LAST``.

    IPv6 may be in brackets, as in filters. An IPv4 address that is written as IPv6 is taken for
    the IPv4 address. Raises ``ValueError``, whose words go on from the quoted text.
    """
    if "-" in text:
        first, _, last = (part.strip() for part in text.partition("-"))
        return list(_of_range(first, last))
    host, slash, mask = (part.strip() for part in text.partition("/"))
    if host.startswith("["):
        host, slash, mask = _without_brackets(text)
    family, address = _address(host)
    length = _length(family, mask) if slash else family.bits
    return [_entry(family, address, length)]


def format_entry(form: Form, entry: bytes) -> str:
    """The text of an entry, canonical, as filters have it but without brackets."""
    if form.family is Family.IPV4:
        text = socket.inet_ntop(socket.AF_INET, entry)
    else:
        text = format_value(Family.IPV6, int.from_bytes(entry, "big"))
    return text if form.length == form.family.bits else f"{text}/{form.length}"


def format_list(addresses: AddressList) -> Iterator[str]:
    """The entries as texts, IPv4 first, ascending, a prefix before what lies in it."""
    for family in Family:
        runs = [
            _with_lengths(form, packed)
            for form, packed in sorted(addresses.entries.items())
            if form.family is family
        ]
        merged: Iterable[tuple[bytes, int]] = runs[0] if len(runs) == 1 else heapq.merge(*runs)
        for entry, length in merged:
            yield format_entry(Form(family, length), entry)


def _with_lengths(form: Form, packed: bytes) -> Iterator[tuple[bytes, int]]:
    width = form.width
    for at in range(0, len(packed), width):
        yield packed[at : at + width], form.length


def _without_brackets(text: str) -> tuple[str, str, str]:
    """The parts of ``[2001:db8::]/32`` or ``[2001:db8::/32]``."""
    inside, close, after = text[1:].partition("]")
    host, slash, mask = (part.strip() for part in (inside + after.strip()).partition("/"))
    if not close or ":" not in host or (after.strip() and not after.strip().startswith("/")):
        raise ValueError(_NOTHING)
    return host, slash, mask


def _address(text: str) -> tuple[Family, int]:
    address = ipv4_value(text)
    if address is not None:
        return Family.IPV4, address
    address = ipv6_value(text)
    if address is not None:
        return Family.IPV6, address
    if text and text.replace(".", "").replace("-", "").isalnum() and not text[-1].isdigit():
        raise ValueError("is a name, and a list holds addresses")
    raise ValueError(_NOTHING)


def _length(family: Family, mask: str) -> int:
    if family is Family.IPV4 and "." in mask:
        value = ipv4_value(mask)
        ones = value.bit_count() if value is not None else 0
        if value is None or value != (1 << 32) - (1 << (32 - ones)):
            raise ValueError("has a mask that is none, or has gaps")
        return ones
    if not is_number(mask) or len(mask) > 3 or int(mask) > family.bits:
        raise ValueError(f"has a prefix length that is not between 0 and {family.bits}")
    return int(mask)


def _entry(family: Family, address: int, length: int) -> tuple[Form, bytes]:
    packed = address.to_bytes(family.bits // 8, "big")
    if family is Family.IPV6 and length >= _IPV4_IN_MAPPED and packed.startswith(MAPPED):
        return Form(Family.IPV4, length - _IPV4_IN_MAPPED), packed[len(MAPPED) :]
    return Form(family, length), packed


def _of_range(first: str, last: str) -> Iterator[tuple[Form, bytes]]:
    """The prefixes that cover exactly what lies from `first` to `last`, both included."""
    family, low = _address(first)
    last_family, high = _address(last)
    if family is not last_family:
        raise ValueError("is a range from one IP version to the other")
    if low > high:
        raise ValueError("is a range that ends before it begins")
    while low <= high:
        # As large as the address it begins with permits, and no larger than what is left.
        size = min(
            (low & -low).bit_length() - 1 if low else family.bits, (high - low + 1).bit_length() - 1
        )
        yield _entry(family, low, family.bits - size)
        low += 1 << size
