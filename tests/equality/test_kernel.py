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
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.base import Backend
from ipsecd.backend.beside import XdpWithNftables
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.host import read_host
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Family, InForce
from tests.frames import encode
from tests.netns.site import BPFFS
from tests.strategies import in_force, packets

NAMES = tuple(one.name for one in ESSENTIALS)
RULES = """
table inet witness {
  set in4 { typeof ip id; flags dynamic; size 65535; }
  set in6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
  chain arriving {
    type filter hook prerouting priority -299;
    iif wire meta nfproto ipv4 add @in4 { ip id };
    iif wire meta nfproto ipv6 add @in6 { ip6 flowlabel };
  }
}
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


def hardware_address(name: str) -> str:
    address: str = json.loads(run("ip", "-j", "link", "show", name))[0]["address"]
    return address


class Wire:
    """A link with an end here and an end in nowhere, and sockets to put packets on both."""

    def __init__(self) -> None:
        run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "nowhere")
        for name in ("wire", "nowhere"):
            run("ip", "link", "set", name, "up")
        run("ip", "address", "add", "10.9.0.1/24", "brd", "+", "dev", "wire")
        run("ip", "address", "add", "fd09::1/64", "dev", "wire", "nodad")
        mac = hardware_address("nowhere")
        for gateway in ("10.9.0.254", "fd09::fe"):
            run("ip", "neigh", "add", gateway, "lladdr", mac, "dev", "wire")
            family = "-6" if ":" in gateway else "-4"
            run("ip", family, "route", "add", "default", "via", gateway)
        for other in ("10.9.0.2", "fd09::2"):
            run("ip", "neigh", "add", other, "lladdr", mac, "dev", "wire")
        self.mac = bytes.fromhex(hardware_address("wire").replace(":", ""))
        self.far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.far.bind(("nowhere", 0))
        self.raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for sock in (self.raw4, self.raw6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wire\0")
        self.raw6.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL

    def send(self, packet: Packet, number: int) -> bool:
        """Put a packet on its way; False if the kernel has no way for it."""
        data = encode(packet, number)
        try:
            if packet.point is Point.ARRIVING:
                kind = b"\x08\x00" if packet.family is Family.IPV4 else b"\x86\xdd"
                self.far.send(self.mac + bytes(6) + kind + data)
            elif packet.family is Family.IPV4:
                target = socket.inet_ntop(socket.AF_INET, packet.destination.to_bytes(4, "big"))
                self.raw4.sendto(data, (target, 0))
            else:
                target = socket.inet_ntop(socket.AF_INET6, packet.destination.to_bytes(16, "big"))
                self.raw6.sendto(data, (target, 0))
        except PermissionError:
            return True  # dropped in the output hook, which is an answer
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("needs root")
        pytest.skip("needs root")
    if "IPSECD_ISOLATED" not in os.environ:
        pytest.skip("needs a network namespace of its own: run it with make test")
    made = Wire()
    run("nft", "-f", "-", text=RULES)
    yield made
    for table in TABLES:
        run("nft", "delete", "table", *table)
    run("ip", "link", "delete", "wire")


def witnessed() -> set[tuple[str, int]]:
    """The numbers of the packets that passed, with the set that has them."""
    found = set()
    for table in TABLES:
        for item in json.loads(run("nft", "-j", "list", "table", *table))["nftables"]:
            if "set" in item:
                for value in item["set"].get("elem", []):
                    found.add((item["set"]["name"], int(value)))
    run("nft", "-f", "-", text="".join(f"flush set {n};\n" for n in SETS))
    return found


TABLES = (("inet", "witness"), ("netdev", "witness"))
SETS = ("inet witness in4", "inet witness in6", "netdev witness out4", "netdev witness out6")
POINTS = (Point.ARRIVING, Point.SENDING)


def make(name: str) -> Backend:
    return NftablesBackend() if name == "nftables" else XdpWithNftables(XdpBackend(BPFFS))


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_decides_as_the_oracle_does(wire: Wire, name: str) -> None:
    """What a backend drops and lets pass, of real packets, is what decide says."""
    host = read_host().host
    backend = make(name)
    compared = 0

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000"))
        // (1 if name == "nftables" else 3),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(in_force(), st.lists(packets(POINTS), min_size=20, max_size=30))
    def compare(filters: list[InForce], sent: list[Packet]) -> None:
        nonlocal compared
        volatile = Volatile()
        policy = [one for one in filters if not one.origin.volatile]
        if name == "nftables":
            backend.remove()
        backend.apply(compile_filters(policy, NAMES), volatile)
        dynamic = [one for one in filters if one.origin.volatile]
        delta = volatile.change(add=rows_of(dynamic))
        if delta.added:
            backend.change(delta, volatile)
        numbers = {n: packet for n, packet in enumerate(sent, 1) if wire.send(packet, n)}
        passed = witnessed()
        for number, packet in numbers.items():
            way = "in" if packet.point is Point.ARRIVING else "out"
            wanted = decide(filters, packet, host, ESSENTIALS)
            seen = (f"{way}{packet.family.value}", number) in passed
            if packet.later_fragment and not seen:
                # Connection tracking, which a permit can need, waits for the first part for ever.
                continue
            assert seen == (wanted.action.value == "permit"), (packet, wanted, filters)
            compared += 1
        gone = volatile.change(remove={one.origin for one in dynamic})
        if gone.removed:
            backend.change(gone, volatile)

    try:
        compare()
    finally:
        backend.remove()
        backend.close()
    assert compared > 1000
