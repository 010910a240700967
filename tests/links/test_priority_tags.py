"""A tag of VLAN 0 around a packet out of a tunnel: the stack takes it off, as from a wire."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.links import packets, results
from tests.links.devices import IFF_TUN, opened
from tests.links.enforcement import enforcing
from tests.links.ground import (
    HOST4,
    HOST6,
    PEER4,
    PEER6,
    CannotBuild,
    Ground,
    at_host,
    built,
)
from tests.links.kinds import KINDS
from tests.links.probes import BLOCKED, COUNT, OPEN, readable, within
from tests.netns import site
from tests.netns.site import BACKENDS, PEER

pytestmark = pytest.mark.netns

Send = Callable[[int, bytes], None]
"""Sends what follows a protocol of the link layer, which is its number."""

INNER = {4: (PEER4, HOST4, 0x0800), 6: (PEER6, HOST6, 0x86DD)}
GRE = 47


@contextmanager
def by_gre(title: str, family: socket.AddressFamily, to: str) -> Iterator[Send]:
    """A link with a peer who writes its packets by hand."""
    (kind,) = (kind for kind in KINDS if kind.title == title)
    with built(kind, Ground()):
        with within(PEER):
            raw = socket.socket(family, socket.SOCK_RAW, GRE)

        def send(protocol: int, data: bytes) -> None:
            raw.sendto(struct.pack(">HH", 0, protocol) + data, (to, 0))

        with raw:
            yield send


@contextmanager
def by_tun() -> Iterator[Send]:
    """A device whose program says of every packet what it is."""
    with opened(None, IFF_TUN) as device:
        Ground().host(at_host("link0"))

        def send(protocol: int, data: bytes) -> None:
            os.write(device, struct.pack(">HH", 0, protocol) + data)

        yield send


CARRIERS: dict[str, Callable[[], AbstractContextManager[Send]]] = {
    "GRE": lambda: by_gre("GRE", socket.AF_INET, site.HERE4),
    "ip6gre": lambda: by_gre("ip6gre", socket.AF_INET6, site.HERE6),
    "tun with packet information": by_tun,
}


def came(send: Send, version: int, port: int, *tags: int) -> int:
    """How many of five datagrams are delivered that come with these tags, outermost first."""
    source, destination, protocol = INNER[version]
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    layers = [*tags, protocol]
    with (
        socket.socket(family, socket.SOCK_DGRAM) as tried,
        socket.socket(family, socket.SOCK_DGRAM) as last,
    ):
        tried.bind((destination, port))
        last.bind((destination, LAST))
        below = b"".join(struct.pack(">HH", 0, inner) for inner in layers[1:])
        for _ in range(COUNT):
            send(layers[0], below + packets.udp(source, destination, port))
        deadline = time.monotonic() + 4
        send(protocol, packets.udp(source, destination, LAST))
        while not readable(last, time.monotonic() + 0.2):
            assert time.monotonic() < deadline, "the link carries nothing"
            send(protocol, packets.udp(source, destination, LAST))
        tried.setblocking(False)
        count = 0
        with suppress(BlockingIOError):
            while tried.recv(100):
                count += 1
        return count


LAST = 1436
"""The port of what comes last, without a tag: then the others have had their time.

A link that is new may lose the first packets, so that one is repeated.
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_tag_is_no_way_around(tmp_path: Path, carrier: str, backend: str) -> None:
    """One tag or several, of 802.1Q or 802.1ad: a blocked port is blocked, an open one open.

    What has three is unreadable, so that nothing is said of its open port.
    """
    site.needs_isolation()
    with site.wire(), ExitStack() as stack:
        try:
            send = stack.enter_context(CARRIERS[carrier]())
        except CannotBuild as reason:
            results.excuse(str(reason))
        tried = [
            (version, tags)
            for version in INNER
            for tags in ((0x8100,), (0x88A8,), (0x88A8, 0x8100), (0x8100, 0x8100), (0x8100,) * 3)
        ]
        by_me, _ = BLOCKED["in"]
        for version in INNER:
            came(send, version, by_me)
        for version, tags in tried:
            assert came(send, version, by_me, *tags) == COUNT, (version, tags)
        stack.enter_context(enforcing(tmp_path, backend))
        leaks = [
            f"IPv{version}, tags {[hex(tag) for tag in tags]}, port {port}: {count} of {COUNT}"
            for version, tags in tried
            for port in BLOCKED["in"]
            if (count := came(send, version, port, *tags))
        ]
        assert not leaks
        for version, tags in tried:
            assert came(send, version, OPEN, *tags) == COUNT or len(tags) > 2, (version, tags)
