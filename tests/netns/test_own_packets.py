"""What this host sends from an address that is not its own, or is no more."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from ipsecd.backend.base import Backend
from ipsecd.backend.nftables import surroundings
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns import site
from tests.netns.site import BPFFS, PEER4, PEER6, run

pytestmark = pytest.mark.netns

PORT = 7000
LATER = "fd09::99"
"""An address that this host gets and loses."""
FOREIGN4, FOREIGN6 = "203.0.113.9", "2001:db8::9"
IPV6_TRANSPARENT = 75


class Watch:
    """Counts what gets past the look at what this host sends."""

    def __init__(self) -> None:
        run("nft", "add table inet watch")
        run("nft", "add chain inet watch out { type filter hook postrouting priority 300; }")
        run("nft", "add counter inet watch sent")
        run("nft", f"add rule inet watch out oif wire0 udp dport {PORT} counter name sent")

    @property
    def sent(self) -> int:
        """How many packets it has counted."""
        listed = json.loads(run("nft", "-j", "list", "counter", "inet", "watch", "sent"))
        return int(listed["nftables"][-1]["counter"]["packets"])


def in_force(text: str, store: str = "static") -> InForce:
    """A filter that blocks."""
    return InForce(Origin(store, "P", "R"), parse_filter(text), Action.BLOCK)


def enforce(backend: Backend, text: str) -> None:
    """Put a policy in force that blocks what a filter matches."""
    backend.apply(compile_filters([in_force(text)], ("neighbour-discovery",)), Volatile())


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The wire, with everything that this host sends to the port blocked."""
    site.needs_isolation()
    with site.wire():
        backend = NftablesBackend()
        enforce(backend, f"0=*:{PORT}:UDP")
        yield Watch()
        run("nft", "delete table inet watch")
        backend.remove()
        backend.close()


def bound(address: str, *, transparent: bool = False) -> socket.socket:
    """A socket of IPv6 that sends from an address."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    if transparent:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    sock.bind((address, 0))
    return sock


def test_a_socket_whose_address_has_gone_is_blocked(watch: Watch) -> None:
    """IPv6 lets it go on sending from there."""
    run("ip", "address", "add", f"{LATER}/128", "dev", "wire0", "nodad")
    with bound(LATER) as sock:
        with pytest.raises(PermissionError):
            sock.sendto(b"x", (PEER6, PORT))
        run("ip", "address", "del", f"{LATER}/128", "dev", "wire0")
        with pytest.raises(PermissionError):
            sock.sendto(b"x", (PEER6, PORT))
        sock.sendto(b"x", (PEER6, PORT + 1))
    assert watch.sent == 0


def test_a_forged_source_is_no_way_out(watch: Watch) -> None:
    """A raw socket writes what it likes into the header."""
    payload = struct.pack(">4H", 4000, PORT, 8, 0)
    source, destination = map(socket.inet_aton, (FOREIGN4, PEER4))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0) + source + destination
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw, pytest.raises(PermissionError):
        raw.sendto(header + payload, (PEER4, 0))
    assert watch.sent == 0


def test_a_transparent_proxy_sends_for_others(watch: Watch) -> None:
    """Filters of what is from this host are not about what its clients send."""
    with bound(FOREIGN6, transparent=True) as sock:
        sock.sendto(b"x", (PEER6, PORT))
    assert watch.sent == 1


@pytest.mark.parametrize(
    ("make", "sees_sockets", "reason"),
    [
        (NftablesBackend, True, ""),
        (NftablesBackend, False, "CONFIG_NFT_SOCKET"),
        (partial(XdpBackend, BPFFS), False, "programs do not see who sends"),
    ],
    ids=["nftables", "nftables without sockets", "programs alone"],
)
def test_a_kernel_that_tells_nothing_about_sockets_is_named(
    make: Callable[[], Backend],
    sees_sockets: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only where something is blocked that this host sends; elsewhere the kernel can be asked."""
    site.needs_isolation()
    monkeypatch.setattr(surroundings, "can_see_sockets", lambda _: sees_sockets)
    backend, volatile = make(), Volatile()

    def blocking(text: str) -> tuple[str, ...]:
        enforce(backend, text)
        return backend.gaps

    try:
        assert blocking(f"*=0:{PORT}:UDP") == ()
        assert [reason in gap for gap in blocking(f"0=*:{PORT}:UDP")] == [True] * bool(reason)
        assert blocking(f"*=0:{PORT}:UDP") == ()
        backend.change(volatile.change(add=rows_of([in_force("0=*", "dynamic")])), volatile)
        assert len(backend.gaps) == bool(reason)
    finally:
        backend.remove()
        backend.close()
