"""Owns a wire on which packets of any kind are sent, and the witnesses of what passes.

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
from contextlib import contextmanager

import pytest
from pyroute2 import netns

from ipsecd.backend.base import Backend
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.model.addresses import Family, Process
from ipsecd.model.packets import Packet, Point
from tests.frames import encode
from tests.netns.site import BPFFS

NOBODY: frozenset[Process] = frozenset()
MARK = 1434
"""On what is sent here: what the kernel answers by itself would have numbers of its own."""
NO_PACKET = 0x88B5
"""The type of frames for experiments of one's own (IEEE 802)."""
RULES = """
table inet witness {
  set in4 { typeof ip id; flags dynamic; size 65535; }
  set in6 { typeof ip6 flowlabel; flags dynamic; size 65535; }
  chain arriving {
    type filter hook prerouting priority -198;
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
        self.near = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(NO_PACKET))
        self.near.bind(("wire", NO_PACKET))
        self.near.settimeout(10)

    def send(self, packet: Packet, number: int, data: bytes = b"") -> bool:
        """Put a packet on its way, as these bytes; False if the kernel has no way for it."""
        data = data or encode(packet, number)
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

    def wait(self) -> None:
        """Wait until all that was put on its way to arrive has been looked at.

        What is dropped is seen by nobody, and on a busy machine the kernel may take it later. Each
        processor has a queue of its own for what is sent on it, so a frame goes through each: one
        that is no packet, so that nothing judges it or counts it.
        """
        processors = os.sched_getaffinity(0)
        frame = self.mac + bytes(6) + NO_PACKET.to_bytes(2, "big") + bytes(46)
        try:
            for processor in processors:
                os.sched_setaffinity(0, {processor})
                self.far.send(frame)
        finally:
            os.sched_setaffinity(0, processors)
        for _ in processors:
            self.near.recv(len(frame))


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


def comes(way: str, packet: Packet, number: int) -> bool:
    """Whether a packet is seen; on a busy machine the kernel may take it later."""
    for _ in range(20):
        if (f"{way}{packet.family.value}", number) in witnessed():
            return True
        time.sleep(0.005)
    return False


@contextmanager
def wire() -> Iterator[Wire]:
    """The wire with its witnesses, in the namespace of the tests."""
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
