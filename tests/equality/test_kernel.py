"""The chain of equalities over a real kernel: packets on a wire, and what each backend lets pass.

Packets are injected on a veth pair (arriving) or from raw sockets (sending). Tables of our own,
behind ipsecd on the way in and at the far end on the way out, write down the number that each
packet carries in its IPv4 identification or IPv6 flow label; what they have not seen was dropped.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pyroute2 import netns

from ipsecd.backend.base import Backend
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.host.interfaces import read_host
from ipsecd.model.addresses import Family, Process
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import InForce
from tests.equality import rows
from tests.frames import encode
from tests.netns.site import BPFFS, make_group, own_name
from tests.strategies import in_force, packets, senders_in_force

NAMES = tuple(exemption.name for exemption in ESSENTIALS)
OWN = own_name("ipsecd-test")
SERVICE, OUTER, INNER = SENDERS = (
    Process("service", f"{OWN}.service"),
    Process("cgroup", f"/{OWN}"),
    Process("cgroup", f"/{OWN}/inner"),
)
NOBODY: frozenset[Process] = frozenset()
GROUPS = {
    f"system.slice/{OWN}.service": frozenset({SERVICE}),
    OWN: frozenset({OUTER}),
    f"{OWN}/inner": frozenset({OUTER, INNER}),
}
"""Control groups, and who a packet that is sent from there comes from."""
MARK = 1434
"""On what is sent here: what the kernel answers by itself would have numbers of its own."""
RULES = """
table inet witness {
  set in4 { typeof ip id; flags dynamic; size 65535; }
  set in6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
  chain arriving {
    type filter hook prerouting priority -299;
    iif wire meta nfproto ipv4 add @in4 { ip id };
    iif wire meta nfproto ipv6 add @in6 { ip6 flowlabel };
  }
  chain answers {
    type filter hook output priority -500;
    meta mark != %d drop;
  }
}
"""
FAR_RULES = """
table netdev witness {
  set out4 { typeof ip id; flags dynamic; size 65535; }
  set out6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
  chain sent {
    type filter hook ingress device "nowhere" priority 0;
    meta protocol ip add @out4 { ip id };
    meta protocol ip6 add @out6 { ip6 flowlabel };
  }
}
"""


def run(*words: str, text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    return done.stdout


def hardware_address(*where: str, name: str) -> str:
    address: str = json.loads(run(*where, "ip", "-j", "link", "show", name))[0]["address"]
    return address


def raw_sockets() -> tuple[socket.socket, socket.socket]:
    """Sockets for whole packets of each IP version; their sender is in our group of now."""
    raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for sock in (raw4, raw6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wire\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    raw6.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
    return raw4, raw6


class Wire:
    """A link with an end here and an end in another namespace, and sockets to send on both."""

    def __init__(self) -> None:
        run("ip", "netns", "add", "nowhere")
        peer = ("peer", "name", "nowhere", "netns", "nowhere")
        run("ip", "link", "add", "wire", "type", "veth", *peer)
        run("ip", "link", "set", "wire", "up")
        run("ip", "-n", "nowhere", "link", "set", "nowhere", "up")
        run("ip", "address", "add", "10.9.0.1/24", "brd", "+", "dev", "wire")
        run("ip", "address", "add", "fd09::1/64", "dev", "wire", "nodad")
        mac = hardware_address(*FAR, name="nowhere")
        for gateway in ("10.9.0.254", "fd09::fe"):
            run("ip", "neigh", "add", gateway, "lladdr", mac, "dev", "wire")
            family = "-6" if ":" in gateway else "-4"
            run("ip", family, "route", "add", "default", "via", gateway)
        for address in ("10.9.0.2", "fd09::2"):
            run("ip", "neigh", "add", address, "lladdr", mac, "dev", "wire")
        self.mac = bytes.fromhex(hardware_address(name="wire").replace(":", ""))
        netns.pushns("nowhere")
        try:
            self.far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.far.bind(("nowhere", 0))
        finally:
            netns.popns()
        self.raw = {NOBODY: raw_sockets()}

    def send(self, packet: Packet, number: int) -> bool:
        """Put a packet on its way; False if the kernel has no way for it."""
        data = encode(packet, number)
        try:
            if packet.point is Point.ARRIVING:
                kind = b"\x08\x00" if packet.family is Family.IPV4 else b"\x86\xdd"
                self.far.send(self.mac + bytes(6) + kind + data)
            elif packet.family is Family.IPV4:
                target = socket.inet_ntop(socket.AF_INET, packet.destination.to_bytes(4, "big"))
                self.raw[packet.processes][0].sendto(data, (target, 0))
            else:
                target = socket.inet_ntop(socket.AF_INET6, packet.destination.to_bytes(16, "big"))
                self.raw[packet.processes][1].sendto(data, (target, 0))
        except PermissionError:
            return True  # dropped in the output hook, which is an answer
        except OSError:
            return False
        return True


@pytest.fixture
def wire() -> Iterator[Wire]:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("needs root")
        pytest.skip("needs root")
    if "IPSECD_ISOLATED" not in os.environ:
        pytest.skip("needs a network namespace of its own: run it with make test")
    link = Wire()
    run("nft", "-f", "-", text=RULES % MARK)
    run(*FAR, "nft", "-f", "-", text=FAR_RULES)
    yield link
    run("nft", "delete", "table", "inet", "witness")
    run("ip", "link", "delete", "wire")
    run("ip", "netns", "delete", "nowhere")


@pytest.fixture
def senders(wire: Wire) -> Iterator[None]:
    """Control groups, and sockets that were made in each of them."""
    top = cgroups.root()
    assert top is not None
    (line,) = (
        line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
    )
    home = top / line[3:].lstrip("/")
    pid = str(os.getpid())
    for name, processes in GROUPS.items():
        make_group(top / name)
        (top / name / "cgroup.procs").write_text(pid)
        try:
            wire.raw[processes] = raw_sockets()
        finally:
            (home / "cgroup.procs").write_text(pid)
    yield
    for name, processes in reversed(GROUPS.items()):
        for sock in wire.raw.pop(processes):
            sock.close()
        (top / name).rmdir()


def witnessed() -> set[tuple[str, int]]:
    """The numbers of the packets that passed since they were forgotten, with who has seen them."""
    passed = set()
    for where, table in WITNESSES:
        for item in json.loads(run(*where, "nft", "-j", "list", "table", *table))["nftables"]:
            if "set" in item:
                passed |= {(item["set"]["name"], int(n)) for n in item["set"].get("elem", [])}
    return passed


def forget() -> None:
    """Have the witnesses forget all numbers."""
    for where, table in WITNESSES:
        way = "in" if table[0] == "inet" else "out"
        sets = "; ".join(f"flush set {table[0]} {table[1]} {way}{version}" for version in (4, 6))
        run(*where, "nft", sets)


# Unlike ip netns exec it makes no mounts, and it is run thousands of times.
FAR = ("nsenter", "--net=/run/netns/nowhere")
WITNESSES = (((), ("inet", "witness")), (FAR, ("netdev", "witness")))
KEPT = 1000
"""How many numbers are given out before the witnesses forget them."""
POINTS = (Point.ARRIVING, Point.SENDING)


def make(name: str) -> Backend:
    return (
        NftablesBackend()
        if name == "nftables"
        else NftablesWithPrograms(
            "xdp", NftablesBackend(), lambda: XdpBackend(BPFFS, alone=False), required=True
        )
    )


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_decides_as_the_oracle_does(wire: Wire, name: str) -> None:
    """What a backend drops and lets pass, of real packets, is what decide says."""
    compare(wire, name, POINTS)


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("senders")
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_knows_senders_as_the_oracle_does(wire: Wire, name: str) -> None:
    """The same where filters name services and control groups, and packets come from there."""
    compare(wire, name, (Point.SENDING,), SENDERS, share=5)


def comes(way: str, packet: Packet, number: int) -> bool:
    """Whether a packet is seen; on a busy machine the kernel may take it later."""
    for _ in range(20):
        if (f"{way}{packet.family.value}", number) in witnessed():
            return True
        time.sleep(0.005)
    return False


def wrong_verdicts(wire: Wire) -> list[tuple[tuple[str, ...], Packet]]:
    """The policies and packets of the cases that are written out in which nftables is wrong."""
    backend = NftablesBackend()
    wrong = []
    try:
        for number, (policy, packet, wanted) in enumerate(rows.CASES, 1):
            backend.apply(compile_filters(rows.in_force(policy)), Volatile())
            assert wire.send(packet, number)
            if comes("in", packet, number) != (wanted.value == "permit"):
                wrong.append((policy, packet))
    finally:
        backend.remove()
        backend.close()
    return wrong


@pytest.mark.netns
def test_every_field_is_looked_at_where_it_lies(wire: Wire) -> None:
    """Verdicts that are written out by hand, which a wrong row of the fields would change."""
    assert not wrong_verdicts(wire)


@pytest.mark.netns
@pytest.mark.parametrize("name", [name for name in rows.BROKEN if name not in rows.IN_PROGRAMS])
def test_a_wrong_row_is_seen(wire: Wire, name: str) -> None:
    """A field at the wrong offset, too short, or of the wrong rank changes a verdict."""
    with rows.broken(name):
        assert wrong_verdicts(wire)


def compare(
    wire: Wire,
    name: str,
    points: tuple[Point, ...],
    senders: tuple[Process, ...] = (),
    share: int = 1,
) -> None:
    """Compare a backend with the oracle over so many generated policies, and that by `share`."""
    host = read_host().host
    backend = make(name)
    compared, first = 0, 1

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "500"))
        // (1 if name == "nftables" else 3)
        // share,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        senders_in_force(senders) if senders else in_force(),
        st.lists(
            st.tuples(packets(points), st.sampled_from(list(wire.raw))), min_size=40, max_size=60
        ),
    )
    def compare_one(filters: list[InForce], drawn: list[tuple[Packet, frozenset[Process]]]) -> None:
        nonlocal compared, first
        sent = [replace(packet, processes=processes) for packet, processes in drawn]
        volatile = Volatile()
        policy = [flt for flt in filters if not flt.origin.volatile]
        if name == "nftables":
            backend.remove()
        backend.apply(compile_filters(policy, NAMES), volatile)
        dynamic = [flt for flt in filters if flt.origin.volatile]
        delta = volatile.change(add=rows_of(dynamic))
        if delta.added:
            backend.change(delta, volatile)
        if first > KEPT:
            forget()
            first = 1
        numbers = {n: packet for n, packet in enumerate(sent, first) if wire.send(packet, n)}
        first += len(sent)
        passed = witnessed()
        for number, packet in numbers.items():
            way = "in" if packet.point is Point.ARRIVING else "out"
            wanted = decide(filters, packet, host, ESSENTIALS)
            permitted = wanted.action.value == "permit"
            arrived = (f"{way}{packet.family.value}", number) in passed
            if packet.later_fragment and not arrived:
                # Connection tracking, which a permit can need, waits for the first part for ever.
                continue
            if permitted and not arrived:
                arrived = comes(way, packet, number)
            assert arrived == permitted, (packet, wanted, filters)
            compared += 1
        gone = volatile.change(remove={flt.origin for flt in dynamic})
        if gone.removed:
            backend.change(gone, volatile)

    try:
        compare_one()
    finally:
        backend.remove()
        backend.close()
    assert compared > 1000 // share
