"""Owns floods: frames as bytes, the program that sends them, and what counts those that leak.

What is counted is what reaches a UDP socket: behind every hook of the kernel, whoever has rules
there, and out of reach of those who flush them. The socket has a filter that drops everything,
so that a packet costs little, none is lost in a queue, and the kernel's count of drops is exact.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Self

from tests.netns.site import HOST, PEER, inside, serving
from tests.netns.sockets import entered

BLOCKED, OPEN = 1434, 1435
"""The ports: what arrives at the first has leaked, what arrives at the second is permitted."""
RATE = 200_000
LEAST_RATE = 100_000
MAC = "02:00:00:00:00:01"
"""Every link that is protected has this address, so that no frame has to be made anew."""
PEER_MAC = "02:00:00:00:00:66"
SO_ATTACH_FILTER, SO_MEMINFO, SK_MEMINFO_DROPS = 26, 55, 8
SOURCE = Path(__file__).with_name("flood.c")


# -- frames --------------------------------------------------------------------------------------


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _packet(source: str, destination: str, port: int) -> bytes:
    """A UDP packet that a socket takes."""
    ours, theirs = ip_address(source), ip_address(destination)
    payload = b"moment"
    length = 8 + len(payload)
    udp = struct.pack(">4H", 4000, port, length, 0) + payload
    if isinstance(theirs, IPv4Address):
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0)
        head += ours.packed + theirs.packed
        return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:] + udp
    pseudo = ours.packed + theirs.packed + struct.pack(">II", length, 17)
    udp = udp[:6] + _checksum(pseudo + udp).to_bytes(2, "big") + udp[8:]
    head = struct.pack(">IHBB", 6 << 28, length, 17, 64) + ours.packed + theirs.packed
    return head + udp


@dataclass(frozen=True)
class Target:
    """What is sent to: an address, over a link of the peer, in a VLAN or in none."""

    link: str
    address: str
    vlans: tuple[int, ...] = ()
    mac: str = MAC

    def frame(self, port: int) -> bytes:
        """A frame to a port there."""
        version6 = ":" in self.address
        tags = b"".join(struct.pack(">HH", 0x8100, vlan) for vlan in self.vlans)
        return (
            bytes.fromhex((self.mac + PEER_MAC).replace(":", ""))
            + tags
            + (b"\x86\xdd" if version6 else b"\x08\x00")
            + _packet("fd09::66" if version6 else "192.168.1.66", self.address, port)
        )


# -- the flood -----------------------------------------------------------------------------------


def build(directory: Path) -> Path:
    """Compile the program that sends; its path."""
    binary = directory / "flood"
    words = ("clang", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(binary), str(SOURCE))
    subprocess.run(words, check=True)
    return binary


class Flood:
    """A flood from a namespace to targets: of eight packets, seven are to the blocked port."""

    def __init__(self, program: Path, targets: Iterable[Target], rate: int = RATE) -> None:
        lines = [
            f"{target.link} {target.frame(port).hex()}\n"
            for target in targets
            for port in (BLOCKED,) * 7 + (OPEN,)
        ]
        self.asked_rate = rate
        self._words = (*inside(PEER), str(program), str(rate))
        self._lines = "".join(lines)
        self.sent, self.seconds = 0, 0.0

    def __enter__(self) -> Self:
        count = os.memfd_create("count")
        os.truncate(count, 8)
        self._sent = mmap.mmap(count, 8)
        self._process = subprocess.Popen(
            (*self._words, f"/proc/self/fd/{count}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(count,),
            text=True,
        )
        os.close(count)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._lines)
        self._process.stdin.close()
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.stdout is not None
        sent, seconds = self._process.stdout.readline().split()
        self._process.wait()
        self._process.stdout.close()
        self.sent, self.seconds = int(sent), float(seconds)

    def sent_so_far(self) -> int:
        """How many packets were sent until now."""
        (count,) = struct.unpack("=Q", self._sent[:8])
        return int(count)

    @property
    def rate(self) -> float:
        """Packets that were sent in a second."""
        return self.sent / max(self.seconds, 0.001)


SEND_OUTWARD = """
import socket, sys, time
ports = [int(port) for port in sys.argv[1].split(",")]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    for address in sys.argv[2:]:
        for port in ports:
            try:
                sock.sendto(b"moment", (address, port))
            except OSError:
                pass
    time.sleep(0.0001)
"""


@contextmanager
def outward(addresses: Iterable[str]) -> Iterator[None]:
    """A flood from a socket of this host, as fast as the other leaves time for it."""
    if not (chosen := tuple(addresses)):
        yield
        return
    ports = ",".join(str(port) for port in (BLOCKED,) * 3 + (OPEN,))
    with serving(HOST, SEND_OUTWARD, ports, *chosen):
        yield


# -- the count -----------------------------------------------------------------------------------


def in_namespace(name: str) -> AbstractContextManager[None]:
    """Run the block with this thread in a network namespace: its sockets belong there."""
    return entered(f"/run/netns/{name}")


class _Filter(ctypes.Structure):
    """``struct sock_fprog`` of one instruction (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Counter:
    """How many packets, IPv4 and IPv6, have reached the sockets of a port."""

    def __init__(self, port: int) -> None:
        self._stack = ExitStack()
        self._sockets = []
        for family in (socket.AF_INET, socket.AF_INET6):
            sock = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if family is socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            refuse = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
            program = _Filter(1, ctypes.addressof(refuse))
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))
            sock.bind(("", port))
            self._sockets.append(sock)

    def close(self) -> None:
        self._stack.close()

    def join(self, group: str, link: str) -> None:
        """Become a member of a multicast group on a link."""
        self._membership(group, link, joins=True)

    def leave(self, group: str, link: str) -> None:
        """Be a member no more."""
        self._membership(group, link, joins=False)

    def value(self) -> int:
        """The count so far; it wraps around at 2 to the 32nd."""
        size = 4 * (SK_MEMINFO_DROPS + 1)
        return sum(
            struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, size))[
                SK_MEMINFO_DROPS
            ]
            for sock in self._sockets
        )

    def _membership(self, group: str, link: str, *, joins: bool) -> None:
        index = socket.if_nametoindex(link)
        if ":" in group:
            option = socket.IPV6_JOIN_GROUP if joins else socket.IPV6_LEAVE_GROUP
            value = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index)
            self._sockets[1].setsockopt(socket.IPPROTO_IPV6, option, value)
        else:
            option = socket.IP_ADD_MEMBERSHIP if joins else socket.IP_DROP_MEMBERSHIP
            value = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
            self._sockets[0].setsockopt(socket.IPPROTO_IP, option, value)


class Outages:
    """The longest time in which a counter did not grow while a flood was sent.

    Time is counted in packets of the flood: what keeps it from the processor is no outage.
    """

    def __init__(self, counter: Counter, flood: Flood) -> None:
        self._counter, self._flood = counter, flood
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._longest = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def longest_s(self) -> float:
        return self._longest / self._flood.asked_rate

    def _watch(self) -> None:
        value, sent_then = self._counter.value(), self._flood.sent_so_far()
        while not self._over.wait(0.002):
            sent = self._flood.sent_so_far()
            if (new := self._counter.value()) == value:
                self._longest = max(self._longest, sent - sent_then)
            value, sent_then = (value, sent_then) if new == value else (new, sent)
