"""Fragments of IPv6 datagrams that have Destination Options behind the Fragment header."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from tests.links import packets
from tests.links.enforcement import enforcing
from tests.links.ground import Ground, Kind, at_host, at_peer, built, scripts
from tests.links.probes import BLOCKED, COUNT, DIRECTIONS, OPEN, End, readable, within
from tests.netns import site
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns

WIRE = Kind("wire", scripts(at_host("wire0"), at_peer("wire1")))
UDP, OPTIONS, FRAGMENT = 17, 60, 44
PADDING = bytes((0, 1, 4, 0, 0, 0, 0))
"""The rest of Destination Options of eight bytes, all padding (RFC 8200, section 4.6)."""
SIZE = 1200
"""Bytes of a fragment; those of the data are no headers, whatever they look like."""

numbers = count(1)


def datagram(source: str, destination: str, port: int, payload: bytes) -> Iterator[bytes]:
    """A datagram in fragments, as a host may make them whose options are for the destination."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    whole = bytes((UDP,)) + PADDING + packets.udp(source, destination, port, payload)[40:]
    number = next(numbers)
    for offset in range(0, len(whole), SIZE):
        part = whole[offset : offset + SIZE]
        more = offset + SIZE < len(whole)
        head = struct.pack(">BBHI", OPTIONS, 0, offset | more, number)
        yield packets.ip(addresses, FRAGMENT, head + part)


def delivered(sender: End, receiver: End, port: int, payload: bytes) -> int:
    """How many of five datagrams in fragments arrive whole."""
    source, destination = sender.addresses[6], receiver.addresses[6]
    with ExitStack() as stack:
        waiting = stack.enter_context(receiver.socket(6, "UDP", port))
        last = stack.enter_context(receiver.socket(6, "UDP", LAST))
        with within(sender.namespace):
            raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        stack.enter_context(raw)
        for _ in range(COUNT):
            for part in datagram(source, destination, port, payload):
                with suppress(PermissionError):
                    raw.sendto(part, (destination, 0))
        raw.sendto(packets.udp(source, destination, LAST), (destination, 0))
        assert readable(last, time.monotonic() + 4)
        came = 0
        with suppress(BlockingIOError):
            while waiting.recv(65535) == payload:
                came += 1
        return came


LAST = 1436
"""The port of what comes last and whole: then the others have had their time."""


@pytest.mark.parametrize("byte", [0x00, 0xFF])
@pytest.mark.parametrize("backend", BACKENDS)
def test_later_fragments_of_datagrams_with_options(tmp_path: Path, backend: str, byte: int) -> None:
    """Each says that options follow, and what follows is data: that is not to be read as such.

    What is for an open port arrives all the same, and what is for a blocked one does not.
    """
    site.needs_isolation()
    payload = bytes((byte,)) * 4000
    ends = {"in": (WIRE.peer, WIRE.host), "out": (WIRE.host, WIRE.peer)}
    with site.wire(), built(WIRE, Ground()):
        for direction in DIRECTIONS:
            assert delivered(*ends[direction], BLOCKED[direction][0], payload) == COUNT
        with enforcing(tmp_path, backend):
            for direction in DIRECTIONS:
                came = {
                    port: delivered(*ends[direction], port, payload)
                    for port in (OPEN, *BLOCKED[direction])
                }
                assert came == {OPEN: COUNT, **dict.fromkeys(BLOCKED[direction], 0)}, direction
