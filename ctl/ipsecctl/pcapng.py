"""Owns packets as a pcapng file; must not know who reads it.

Source: draft-ietf-opsawg-pcapng. All numbers are in little-endian order. An interface is written
before the first packet of it; a packet carries what decided about it as a comment.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from typing import Any

from ipsecd.language.moments import parse_moment

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_MAGIC = 0x1A2B3C4D
_END, _COMMENT = 0, 1
_PROGRAM = 4
_NAME, _RESOLUTION = 2, 9
_FLAGS = 2
_DROPPED = 5
_INBOUND, _OUTBOUND = 1, 2
_ETHERNET, _ETHERNET_BYTES = 1, 14
_MICROSECONDS = b"\x06"
_MOST_TEXT = 0xFFFF


class Pcapng:
    """Writes packets as blocks of one section."""

    def __init__(self) -> None:
        self._interfaces: dict[tuple[str, int], int] = {}

    @staticmethod
    def begin() -> bytes:
        """What a file begins with."""
        fixed = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
        return _block(_SECTION, fixed, [(_PROGRAM, b"ipsecctl monitor")])

    def packet(self, seen: dict[str, Any], comment: str) -> bytes:
        """A packet as the daemon tells of it, after its interface if that was not written yet."""
        key = seen["interface"] or "", seen["link_type"]
        described = b""
        if key not in self._interfaces:
            self._interfaces[key] = len(self._interfaces)
            options = [(_NAME, key[0].encode()), (_RESOLUTION, _MICROSECONDS)]
            described = _block(_INTERFACE, struct.pack("<HHI", key[1], 0, 0), options)
        head = b64decode(seen["head"])
        header = _ETHERNET_BYTES if key[1] == _ETHERNET else 0
        time = parse_moment(seen["at"]) // 1000
        fixed = struct.pack(
            "<IIIII",
            self._interfaces[key],
            time >> 32,
            time & 0xFFFFFFFF,
            len(head),
            max(seen["length"] + header, len(head)),
        )
        way = _INBOUND if seen["direction"] == "in" else _OUTBOUND
        options = [(_COMMENT, comment.encode()), (_FLAGS, struct.pack("<I", way))]
        return described + _block(_PACKET, fixed + _padded(head), options)

    def end(self, lost: int, at: str | None) -> bytes:
        """What a file ends with: how many packets are not in it; `at` is the time of the last."""
        if not self._interfaces or at is None:
            return b""
        time = parse_moment(at) // 1000
        fixed = struct.pack("<III", 0, time >> 32, time & 0xFFFFFFFF)
        return _block(_STATISTICS, fixed, [(_DROPPED, struct.pack("<Q", lost))])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes, options: list[tuple[int, bytes]]) -> bytes:
    """A block: its type, its length before and after it, what it says, and options."""
    said = b"".join(
        struct.pack("<HH", code, len(value)) + _padded(value)
        for code, value in ((code, value[:_MOST_TEXT]) for code, value in options)
    )
    body += said + struct.pack("<HH", _END, 0)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
