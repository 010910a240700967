"""Owns what a record says that programs write of a frame which they drop or count; pure."""

from __future__ import annotations

import struct

from ipsecd.backend.reporting import SNAP_BYTES, Report
from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.program import POINTS
from ipsecd.backend.xdp.ring import HEADER_BYTES
from ipsecd.model.values import Action

_RECORD = struct.Struct(f"={HEADER_BYTES}x{abi.REPORT.format.removeprefix('=')}")
_ETHERNET, _TAG, _TAGS = 14, 4, 3
_TAG_TYPES = frozenset({b"\x81\x00", b"\x88\xa8"})

_ACTIONS = (Action.AUDIT, abi.AUDITED), (Action.BLOCK, abi.DROPPED)

_Fields = tuple[int, int, int, int, int, int, int, int, bytes]


def count(records: bytes) -> int:
    """How many there are in what was taken from a ring."""
    return len(records) // _RECORD.size


def reports_of(records: bytes, offset_ns: int) -> list[Report]:
    """The reports in what was taken from a ring; `offset_ns` leads to the clock of the wall.

    What an audit has counted and another rule dropped are two, as rules count it twice.
    """
    return [
        report for fields in _RECORD.iter_unpack(records) for report in _reports(fields, offset_ns)
    ]


def _reports(fields: _Fields, offset_ns: int) -> list[Report]:
    at, generation, interface, length, captured, point, bare, outcome, frame = fields
    frame = frame[:captured]
    link = 0 if bare else _link_header(frame)
    packet = frame[link : link + SNAP_BYTES]
    return [
        Report(
            at + offset_ns,
            action,
            POINTS[point],
            interface,
            _length(packet) or max(0, length - link),
            frame[:link],
            packet,
            generation & 0xFFFFFFFF,
        )
        for action, flag in _ACTIONS
        if outcome & flag
    ]


def _link_header(frame: bytes) -> int:
    """How many bytes come before the IP header: Ethernet, and the tags."""
    length = _ETHERNET
    for _ in range(_TAGS):
        if frame[length - 2 : length] not in _TAG_TYPES:
            break
        length += _TAG
    return length


def _length(packet: bytes) -> int:
    """What the IP header says is the length of the packet, 0 if it does not say it."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and (length := int.from_bytes(packet[2:4])):
        return length
    if version == 6 and (length := int.from_bytes(packet[4:6])):
        return 40 + length
    return 0
