"""Owns a reader of pcapng files, written from the draft and not from our writer."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple


class Block(NamedTuple):
    """A block of a file: its type, its fixed part, and its options by their codes."""

    kind: int
    body: bytes
    options: dict[int, bytes]


FIXED = {0x0A0D0D0A: 16, 1: 8, 5: 12, 6: 20}


def blocks(data: bytes) -> list[Block]:
    """All blocks; asserts that lengths agree and everything is padded."""
    found = []
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        body = data[at + 8 : at + length - 4]
        fixed = FIXED[kind]
        if kind == 6:
            (captured,) = struct.unpack_from("<I", body, 12)
            fixed += (captured + 3) & ~3
        found.append(Block(kind, body[:fixed], _options(body[fixed:])))
        at += length
    assert at == len(data)
    return found


def _options(data: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    at = 0
    while True:
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert (length, at + 4) == (0, len(data))
            return options
        options[code] = data[at + 4 : at + 4 + length]
        at += 4 + ((length + 3) & ~3)


def packets(data: bytes) -> list[dict[str, Any]]:
    """The packets in a file, each with its interface, time, bytes, length and comment."""
    interfaces: list[tuple[str, int]] = []
    found = []
    for kind, body, options in blocks(data):
        if kind == 0x0A0D0D0A:
            assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
        elif kind == 1:
            interfaces.append((options[2].decode(), struct.unpack_from("<H", body)[0]))
            assert options[9] == b"\x06"
        elif kind == 6:
            number, high, low, captured, length = struct.unpack_from("<IIIII", body)
            found.append(
                {
                    "interface": interfaces[number][0],
                    "link_type": interfaces[number][1],
                    "us": high << 32 | low,
                    "data": body[20 : 20 + captured],
                    "length": length,
                    "comment": options[1].decode(),
                    "inbound": struct.unpack("<I", options[2])[0] & 3 == 1,
                }
            )
    return found
