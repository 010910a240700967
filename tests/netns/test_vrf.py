"""Links in a VRF: its addresses are this host's, and what passes a hook twice counts once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.features import finds_addresses_in_vrf
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, Conditions, InForce, InterfaceType, Origin
from tests.counts import counts_of
from tests.netns import site
from tests.netns.site import (
    HERE4,
    HERE6,
    HOST,
    OUTSIDE,
    PEER,
    PEER4,
    PEER6,
    inside,
    listening,
    python,
    run,
    send,
)

pytestmark = pytest.mark.netns

EXEMPT = tuple(exemption.name for exemption in ESSENTIALS)
RULE = Origin("static", "P", "R")
BLUE, BLUE4 = "blue", "198.51.100.9"
"""The VRF, and an address that it has itself."""
BOX, BOX4 = "box", "10.88.0.5"
SEND_FROM = """
import socket, sys
address, port, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
if "transparent" in sys.argv:
    sock.setsockopt(*((41, 75) if ":" in address else (0, 19)), 1)
if len(sys.argv) > 4:
    sock.bind((sys.argv[4], 0))
for n in range(5):
    try:
        sock.sendto(b"x", (address, port))
    except PermissionError:
        pass
"""
IN = [HERE4, HERE6, BLUE4]
OUT = [(PEER4, "wire0"), (PEER4, BLUE), (PEER6, "wire0"), (PEER6, BLUE)]


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    vrf = ["ip", "link", "add", BLUE, "type", "vrf", "table", "10"]
    if subprocess.run(vrf, capture_output=True, check=False).returncode:
        pytest.skip("this kernel has no VRFs")
    try:
        run("ip", "link", "set", BLUE, "up")
        run("ip", "address", "add", f"{BLUE4}/32", "dev", BLUE)
        run("sysctl", "-qw", "net.ipv4.udp_l3mdev_accept=1")
        # An IPv6 address goes when its link enters the VRF.
        run("sysctl", "-qw", "net.ipv6.conf.all.keep_addr_on_down=1")
        with site.wire():
            run("ip", "link", "set", "wire0", "master", BLUE)
            run("ip", "-n", PEER, "route", "add", f"{BLUE4}/32", "via", HERE4)
            backend = NftablesBackend()
            yield backend
            backend.remove()
            backend.close()
    finally:
        run("ip", "link", "delete", BLUE)


def rule(action: Action, text: str, kind: InterfaceType | None = None) -> InForce:
    in_force = InForce(RULE, parse_filter(text), action)
    return replace(in_force, conditions=Conditions(kind))


def enforce(backend: NftablesBackend, *filters: InForce) -> None:
    """Put a policy in force, with counts that begin at 0."""
    backend.remove()
    backend.apply(compile_filters(filters, EXEMPT), Volatile())


def counted(backend: NftablesBackend) -> int:
    return counts_of(backend)[RULE].packets


def comes_in(address: str, port: int = 1434) -> int:
    """How many of five datagrams from the peer to an address of the VRF arrive."""
    with listening(HOST, "::", port) as heard:
        send(OUTSIDE, address, port)
        return heard()


def goes_out(address: str, device: str, port: int = 1434, *source: str) -> int:
    """How many of five datagrams out of the VRF reach the peer.

    `source` is the address that they are from, and "transparent" for the socket of a proxy.
    """
    with listening(OUTSIDE, address, port) as heard:
        subprocess.run(python(HOST, SEND_FROM, address, str(port), device, *source), check=True)
        return heard()


@pytest.mark.parametrize("address", IN)
def test_an_address_in_a_vrf_is_to_me(backend: NftablesBackend, address: str) -> None:
    """A block holds, and a permit that outranks it; each packet counts once."""
    assert comes_in(address) == 5
    enforce(backend, rule(Action.BLOCK, "*=0:1434:UDP"))
    assert comes_in(address) == 0
    assert counted(backend) == 5
    assert comes_in(address, 1435) == 5
    enforce(backend, rule(Action.BLOCK, "*=0"))
    assert comes_in(address) == 0
    backend.apply(
        compile_filters([rule(Action.BLOCK, "*=0"), rule(Action.PERMIT, "*=0::UDP")], EXEMPT),
        Volatile(),
    )
    assert comes_in(address) == 5


@pytest.mark.parametrize("address", [HERE4, HERE6])
def test_a_permit_of_what_arrives_counts_once(backend: NftablesBackend, address: str) -> None:
    """Although it passes prerouting twice, and is delivered then."""
    volatile = Volatile()
    backend.apply(compile_filters([rule(Action.BLOCK, "*=0")], EXEMPT), volatile)
    permit = replace(rule(Action.PERMIT, "*=0:1434:UDP"), origin=Origin("dynamic", "", "d"))
    backend.change(volatile.change(add=rows_of([permit])), volatile)
    assert comes_in(address) == 5
    assert sum(count.packets for count in backend.volatile_counts().values()) == 5


@pytest.mark.parametrize(("address", "device"), OUT)
def test_what_is_sent_in_a_vrf_is_from_me(
    backend: NftablesBackend, address: str, device: str
) -> None:
    """A block holds, and a permit that outranks it; each packet counts once."""
    assert goes_out(address, device) == 5
    enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
    assert goes_out(address, device) == 0
    assert counted(backend) == 5
    assert goes_out(address, device, 1435) == 5
    permit = rule(Action.PERMIT, "0=*:1434:UDP")
    enforce(backend, permit)
    assert goes_out(address, device) == 5
    assert counted(backend) == 5
    enforce(backend, permit, replace(rule(Action.BLOCK, "0=*"), origin=Origin("static", "P", "B")))
    assert goes_out(address, device) == 5
    assert counted(backend) == 5
    assert goes_out(address, device, 1435) == 0


def test_an_address_of_the_vrf_itself_is_me_when_it_sends(backend: NftablesBackend) -> None:
    """The link that a packet leaves by has another."""
    assert goes_out(PEER4, BLUE, 1434, BLUE4) == 5
    enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
    assert goes_out(PEER4, BLUE, 1434, BLUE4) == 0
    assert counted(backend) == 5


def know_peer() -> None:
    """Ask nobody for the peer: that takes an address, and time after a link is up."""
    listed = json.loads(run("ip", "-j", "-n", PEER, "link", "show", "wire1"))
    for address in (PEER4, PEER6):
        words = ("lladdr", listed[0]["address"], "dev", "wire0")
        run("ip", "neighbour", "replace", address, *words)


@pytest.mark.parametrize("device", ["wire0", BLUE])
@pytest.mark.parametrize(
    ("address", "source"), [(PEER4, "203.0.113.9"), (PEER6, "2001:db8::9")], ids=["ip4", "ip6"]
)
def test_a_transparent_proxy_in_a_vrf_sends_for_others(
    backend: NftablesBackend, address: str, source: str, device: str
) -> None:
    """Where the kernel cannot tell them apart in a VRF, all is from this host."""
    can_tell = finds_addresses_in_vrf(os.uname().release)
    know_peer()
    # The peer takes what comes from anywhere.
    run("ip", "-n", PEER, "route", "add", source, "dev", "wire1")
    assert goes_out(address, device, 1434, source, "transparent") == 5
    enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
    assert goes_out(address, device, 1434, source, "transparent") == 5 * can_tell


@pytest.mark.parametrize("source", [HERE4, BLUE4])
def test_a_transparent_proxy_in_a_vrf_is_from_me_under_an_address_of_this_host(
    backend: NftablesBackend, source: str
) -> None:
    """The address of the link that it leaves by, or of another."""
    assert goes_out(PEER4, BLUE, 1434, source, "transparent") == 5
    enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
    assert goes_out(PEER4, BLUE, 1434, source, "transparent") == 0


def test_a_host_without_an_address_in_a_vrf_is_not_me(backend: NftablesBackend) -> None:
    """It sends from the unspecified address, which belongs to nobody."""
    for link in ("wire0", BLUE):
        run("ip", "address", "flush", "dev", link)
    run("ip", "route", "add", PEER4, "dev", "wire0", "table", "10")
    know_peer()
    run("nft", "add table inet watch")
    try:
        run("nft", "add chain inet watch out { type filter hook postrouting priority 300; }")
        run("nft", "add counter inet watch sent")
        run("nft", "add rule inet watch out oif wire0 ip saddr 0.0.0.0 counter name sent")
        enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
        goes_out(PEER4, BLUE)
        listed = json.loads(run("nft", "-j", "list", "counter", "inet", "watch", "sent"))
        assert listed["nftables"][-1]["counter"]["packets"] == 5
    finally:
        run("nft", "delete table inet watch")


def test_the_link_in_a_vrf_is_the_one_that_counts(backend: NftablesBackend) -> None:
    """A rule for one type of interface asks for the link, and never for the VRF."""
    for kind, passing in ((InterfaceType.LAN, 0), (InterfaceType.DIALUP, 5)):
        enforce(backend, rule(Action.BLOCK, "*=0:1434:UDP", kind))
        assert comes_in(HERE4) == passing
        enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP", kind))
        assert goes_out(PEER4, BLUE) == passing
        assert counted(backend) == 5 - passing
    run("ip", "link", "set", "wire0", "down")
    run("ip", "link", "set", "wire0", "name", "wwan0")
    run("ip", "link", "set", "wwan0", "up")
    try:
        enforce(backend, rule(Action.BLOCK, "*=0:1434:UDP", InterfaceType.LAN))
        assert comes_in(HERE4) == 5
        enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP", InterfaceType.LAN))
        assert goes_out(PEER4, BLUE) == 5
        enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP", InterfaceType.DIALUP))
        assert goes_out(PEER4, BLUE) == 0
    finally:
        run("ip", "link", "delete", "wwan0")


def test_what_leaves_a_vrf_under_its_address_is_from_me(backend: NftablesBackend) -> None:
    """What a container in the VRF sends out, with its source translated on the way."""
    run("ip", "netns", "add", BOX)
    run("ip", "link", "add", "box0", "type", "veth", "peer", "name", "eth0", "netns", BOX)
    run("ip", "link", "set", "box0", "master", BLUE, "up")
    run("ip", "address", "add", "10.88.0.1/24", "dev", "box0")
    run("ip", "-n", BOX, "address", "add", f"{BOX4}/24", "dev", "eth0")
    run("ip", "-n", BOX, "link", "set", "eth0", "up")
    run("ip", "-n", BOX, "route", "add", "default", "via", "10.88.0.1")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    rules = "table ip nat { chain post { type nat hook postrouting priority 100;"
    rules += " ip saddr 10.88.0.0/24 masquerade; }\n}"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)

    def leaves() -> int:
        with listening(OUTSIDE, PEER4, 1434) as heard:
            send(inside(BOX), PEER4, 1434)
            return heard()

    try:
        assert leaves() == 5
        enforce(backend, rule(Action.BLOCK, "0=*:1434:UDP"))
        assert leaves() == 0
        assert counted(backend) == 5
        enforce(backend, rule(Action.BLOCK, "0=*:1435:UDP"))
        assert leaves() == 5
    finally:
        run("nft", "delete", "table", "ip", "nat")
        run("ip", "link", "delete", "box0")
        run("ip", "netns", "delete", BOX)
