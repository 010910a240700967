"""Owns set elements as bytes; lays out a million of them in one pass, without objects for each.

Source: nf_tables_newsetelem in net/netfilter/nf_tables_api.c. An attribute is at most 65,535
bytes long, so elements are sent in several messages of one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from ipsecd.backend.nftables.messages import DELSETELEM, NEWSETELEM, NLM_F_CREATE
from ipsecd.backend.nftables.wire import Message
from ipsecd.host.netlink import attribute, attributes

_LIST_BYTES = 60_000
_KEY, _TIMEOUT, _EXPRESSION, _OBJECT = 1, 4, 7, 9
_VALUE = 1
_LIST_ELEMENT = 1
_TABLE, _SET, _ELEMENTS = 1, 2, 3


def element(key: bytes, *, timeout_ms: int = 0, counter: str = "") -> bytes:
    """One element: its `key`, a time to live (0: none) and the counter object it maps to."""
    if not timeout_ms and not counter:
        return b"%b%b%b" % (_before(len(key)), key, bytes(-len(key) % 4))
    payload = attribute(_KEY, attribute(_VALUE, key))
    if timeout_ms:
        payload += attribute(_TIMEOUT, timeout_ms.to_bytes(8, "big"))
    if counter:
        payload += attribute(_OBJECT, counter.encode() + b"\0")
    return attribute(_LIST_ELEMENT, payload)


@lru_cache(maxsize=64)
def _before(width: int) -> bytes:
    """What stands before a key of `width` bytes in an element that has nothing else."""
    value = attribute(_VALUE, bytes(width))
    whole = attribute(_LIST_ELEMENT, attribute(_KEY, value))
    return whole[: 3 * len(attribute(_VALUE, b""))]


def ending_element(key: bytes, timeout_ms: int) -> bytes:
    """The same for an element with an end, of which there are thousands alike."""
    before, between = _around(len(key))
    return b"%b%b%b%b" % (before, key, between, timeout_ms.to_bytes(8, "big"))


@lru_cache(maxsize=64)
def _around(width: int) -> tuple[bytes, bytes]:
    """What stands before a key of `width` bytes in an element, and between it and the end."""
    sample = element(bytes(width), timeout_ms=1)
    key_at, end_at = 3 * len(attribute(_VALUE, b"")), len(sample) - 8
    return sample[:key_at], sample[key_at + width : end_at]


def packed_elements(keys: bytes, width: int, counters: Sequence[str] = ()) -> Iterator[bytes]:
    """Lists of elements for keys of `width` bytes that lie end to end in `keys`.

    `counters` names for each key the counter object it maps to; without them the elements are
    plain.
    """
    count = len(keys) // width
    if counters:
        encoded = (
            element(keys[i * width : (i + 1) * width], counter=counters[i]) for i in range(count)
        )
        yield from in_lists(encoded)
        return
    sample = element(bytes(width))
    size, begin = len(sample), len(sample) - width - (-width % 4)
    per_list = _LIST_BYTES // size
    for start in range(0, count, per_list):
        part = keys[start * width : (start + per_list) * width]
        elements = bytearray(sample * (len(part) // width))
        # A byte of all keys at a time, so that no key is an object.
        for place in range(width):
            elements[begin + place :: size] = part[place::width]
        yield bytes(elements)


def in_lists(elements: Iterable[bytes]) -> Iterator[bytes]:
    """Encoded elements, laid end to end in lists that a message can hold."""
    part: list[bytes] = []
    size = 0
    for encoded in elements:
        if size + len(encoded) > _LIST_BYTES:
            yield b"".join(part)
            part, size = [], 0
        part.append(encoded)
        size += len(encoded)
    if part:
        yield b"".join(part)


def add_elements(table: str, name: str, elements: bytes) -> Message:
    """Add a list of encoded elements to a set."""
    return _change(NEWSETELEM, NLM_F_CREATE, table, name, elements)


def delete_elements(table: str, name: str, elements: bytes = b"") -> Message:
    """Delete a list of encoded elements from a set, all of them if none is named."""
    return _change(DELSETELEM, 0, table, name, elements)


def _change(kind: int, flags: int, table: str, name: str, elements: bytes) -> Message:
    encoded = _names(table, name) + (attribute(_ELEMENTS, elements) if elements else b"")
    return Message(kind, flags, encoded, f"elements of set {name}")


@lru_cache(maxsize=1024)
def _names(table: str, name: str) -> bytes:
    return attribute(_TABLE, table.encode() + b"\0") + attribute(_SET, name.encode() + b"\0")


def parse_elements(message: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The elements in one message of a dump: key, packets and bytes (0 without a counter)."""
    for kind, payload in attributes(message):
        if kind != _ELEMENTS:
            continue
        for _, body in attributes(payload):
            parts = dict(attributes(body))
            key = dict(attributes(parts[_KEY]))[_VALUE]
            packets = size = 0
            if _EXPRESSION in parts:
                data = dict(attributes(parts[_EXPRESSION]))[2]
                packets, size = parse_counter(data)
            yield key, packets, size


def parse_counter(data: bytes) -> tuple[int, int]:
    """Packets and bytes of a counter's attributes (NFTA_COUNTER_BYTES is 1, _PACKETS is 2)."""
    parts = dict(attributes(data))
    return int.from_bytes(parts[2], "big"), int.from_bytes(parts[1], "big")
