"""Fragments of IPv6 datagrams that have Destination Options behind the Fragment header."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.links.enforcement import enforcing
from tests.links.probes import BLOCKED, COUNT, DIRECTIONS, OPEN, End, readable
from tests.netns import site
from tests.netns.site import BACKENDS, PEER

pytestmark = pytest.mark.netns

HOST = End(None, {6: site.HERE6})
OTHER = End(PEER, {6: site.PEER6})
OPTIONS = bytes((0, 0, 1, 4, 0, 0, 0, 0))
"""Destination Options of eight bytes, with padding only (RFC 8200, section 4.6)."""


def delivered(sender: End, receiver: End, port: int, size: int) -> int:
    """How many of five datagrams with Destination Options arrive whole."""
    with ExitStack() as stack:
        waiting = stack.enter_context(receiver.socket(6, "UDP", port))
        last = stack.enter_context(receiver.socket(6, "UDP", LAST))
        sending = stack.enter_context(sender.socket(6, "UDP"))
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, OPTIONS)
        for _ in range(COUNT):
            with suppress(PermissionError):
                sending.sendto(bytes(size), (receiver.addresses[6], port))
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, b"")
        sending.sendto(b"last", (receiver.addresses[6], LAST))
        assert readable(last, time.monotonic() + 4)
        count = 0
        with suppress(BlockingIOError):
            while len(waiting.recv(65535)) == size:
                count += 1
        return count


LAST = 1436
"""The port of what comes last and without options: then the others have had their time."""


@pytest.mark.parametrize("size", [20, 4000], ids=["whole", "in fragments"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_datagrams_with_destination_options(tmp_path: Path, backend: str, size: int) -> None:
    """Where a later fragment is said to begin with options, there is data: it cannot be read.

    What is for an open port arrives all the same, and what is for a blocked one does not.
    """
    site.needs_isolation()
    ends = {"in": (OTHER, HOST), "out": (HOST, OTHER)}
    with site.wire():
        for direction in DIRECTIONS:
            assert delivered(*ends[direction], BLOCKED[direction][0], size) == COUNT
        with enforcing(tmp_path, backend):
            for direction in DIRECTIONS:
                assert delivered(*ends[direction], OPEN, size) == COUNT, direction
                assert delivered(*ends[direction], BLOCKED[direction][0], size) == 0, direction
