"""What programs tell of real packets that they drop, by whatever way they come or leave."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import product
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.choice import withdraw_all
from ipsecd.backend.combined import AWAITED, NftablesWithPrograms
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.reporting import SNAP_BYTES, Report, Reporting
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, InForce, Origin
from tests.frames import encode_udp
from tests.netns import site, sockets
from tests.netns.site import (
    BPFFS,
    HERE4,
    HOST,
    OUTSIDE,
    PATIENCE,
    PEER,
    PEER4,
    delivered,
    eventually,
    namespace_file,
    python,
    run,
    send,
)
from tests.xdp.test_parser import ipv4, ipv6

pytestmark = pytest.mark.netns

PEER_FILE = namespace_file(OUTSIDE)
DATAGRAM = struct.pack(">HHHH", 4000, 1434, 12, 0) + b"worm"
FLOOD = """
import socket, sys, time
frame = bytes.fromhex(sys.argv[1])
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("wire1", 0))
while True:
    for _ in range(50):
        sock.send(frame)
    time.sleep(0.001)
"""


def policy(*texts: str) -> Classifier:
    return compile_filters(
        [InForce(Origin("static", "P", t), parse_filter(t), Action.BLOCK) for t in texts]
    )


FILTERS = ("*=*:1434:UDP", "203.0.113.0/24=*", "[2001:db8::/32]=*")
BLOCKED = policy(*FILTERS)


@contextmanager
def enforced(backend: XdpBackend) -> Iterator[Reporting]:
    """The reports of a backend in force, on a wire with room for long frames."""
    for where, name in ((HOST, "wire0"), (OUTSIDE, "wire1")):
        run(*where, "ip", "link", "set", name, "mtu", "9000")
    backend.apply(BLOCKED, Volatile())
    reporting = backend.reporting
    reporting.set_budget(10**6)
    try:
        yield reporting
    finally:
        backend.remove()
        backend.close()


@pytest.fixture(params=["native", "generic", "tc"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A way in which packets meet programs as they arrive, on a wire."""
    site.needs_isolation()
    if request.param == "generic":
        monkeypatch.setattr(libbpf, "XDP_FLAGS_DRV_MODE", libbpf.XDP_FLAGS_SKB_MODE)
    with site.wire():
        yield request.param


@pytest.fixture
def reporting(way: str) -> Iterator[Reporting]:
    with enforced(XdpBackend(BPFFS, xdp=way != "tc")) as told:
        mode = {"native": '"mode":1', "generic": '"mode":2', "tc": ""}[way]
        assert mode in run("ip", "-j", "link", "show", "wire0")
        yield told


def hardware_address(name: str) -> bytes:
    address = json.loads(run("ip", "-j", "link", "show", name))[0]["address"]
    return bytes.fromhex(address.replace(":", ""))


def frame(packet: bytes, tags: tuple[int, ...] = ()) -> bytes:
    """A frame to this host, with VLAN tags of these types."""
    head = hardware_address("wire0") + b"\x02\0\0\0\0\1"
    for tag in tags:
        head += struct.pack(">HH", tag, 7)
    return head + struct.pack(">H", 0x86DD if packet[0] >> 4 == 6 else 0x0800) + packet


def inject(*frames: bytes) -> None:
    """Put frames on the wire at the peer's end."""
    assert PEER_FILE
    with sockets.entered(PEER_FILE), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("wire1", 0))
        for sent in frames:
            sock.send(sent)


def wait_for(reporting: Reporting, count: int) -> list[Report]:
    """So many reports, and no more."""
    found: list[Report] = []
    while len(found) < count:
        ready = select.select(reporting.descriptors(), [], [], 20 * PATIENCE)[0]
        assert ready, f"{len(found)} of {count} reports, {reporting.blocked()} blocked"
        found += reporting.read(100)
        if not found and reporting.blocked() > count:
            break
    assert len(found) == reporting.blocked() == count
    return found


PACKETS = {
    "udp": ipv4(DATAGRAM),
    "walked": ipv4(DATAGRAM[:2] + b"\0\x35" + DATAGRAM[4:]),
    "udp in ipv6": ipv6(DATAGRAM),
    "extension headers": ipv6(DATAGRAM, kinds=(0, 60, 43)),
    "later fragment": ipv4(b"x" * 24, fragment=3),
    "later fragment of ipv6": ipv6(b"x" * 24, kinds=(44,), fragment=8),
    "unreadable": ipv4(DATAGRAM[:2]),
    "long": ipv4(DATAGRAM + bytes(8900)),
    "long in ipv6": ipv6(DATAGRAM + bytes(8900)),
}
WORM = encode_udp(
    Packet(Point.ARRIVING, Family.IPV4, 0xCB007107, int(IPv4Address(HERE4)), 17, 4000, 1434)
)
"""One that nftables judges too, if programs let it pass: its checksum is right."""
TAGS: tuple[tuple[int, ...], ...] = ((), (0x8100,), (0x88A8, 0x8100))


def test_what_arrives_and_is_dropped_is_told(reporting: Reporting, way: str) -> None:
    """Each packet once, with its first bytes; at tc the kernel has taken the first tag off."""
    for tags, (name, packet) in product(TAGS, PACKETS.items()):
        before = reporting.blocked()
        sent = frame(packet, tags)
        inject(sent)
        count = before + 1
        ready = select.select(reporting.descriptors(), [], [], 20 * PATIENCE)[0]
        assert ready, name
        reports: list[Report] = []
        while not reports:
            reports = reporting.read(10)
        assert reporting.blocked() == count, name
        (report,) = reports
        assert report.packet == packet[:SNAP_BYTES], name
        head = sent[: -len(packet)]
        accelerated = head[:12] + head[16:]
        assert report.link_header in ([head] if way != "tc" or not tags else [accelerated]), name
        assert report.length == len(packet), name
        assert (report.action, report.point) == (Action.BLOCK, Point.ARRIVING)
        assert report.interface == socket.if_nametoindex("wire0")


@pytest.mark.parametrize("way", ["tc"], indirect=True)
def test_what_leaves_and_is_dropped_is_told(reporting: Reporting) -> None:
    """At tc egress; what passes is not told."""
    for _ in range(3):
        send(HOST, PEER4, 1434, 1, 9000 - 28)
        send(HOST, PEER4, 1435, 1, 20)
    for report in wait_for(reporting, 3):
        assert report.packet[:2] == b"\x45\0"
        assert report.packet[22:24] == struct.pack(">H", 1434)
        assert (report.point, report.length) == (Point.SENDING, 9000)
        assert report.interface == socket.if_nametoindex("wire0")
        assert len(report.packet) == SNAP_BYTES
        assert report.link_header[12:] == b"\x08\0"


class Reader:
    """A thread that reads while a flood lasts."""

    def __init__(self, reporting: Reporting) -> None:
        self.reports: list[Report] = []
        self._reporting = reporting
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            if select.select(self._reporting.descriptors(), [], [], 0.01)[0]:
                self.reports += self._reporting.read(500)

    def end(self) -> list[Report]:
        self._ended.set()
        self._thread.join()
        while some := self._reporting.read(500):
            self.reports += some
        return self.reports


def sent_by_peer() -> int:
    """How many frames the other end has put on the wire, without those that found no room."""
    listed = json.loads(run("ip", "-n", PEER, "-json", "-stats", "link", "show", "wire1"))
    return int(listed[0]["stats64"]["tx"]["packets"])


def silence() -> None:
    """Have nobody else than the test send on the wire."""
    Path("/proc/sys/net/ipv6/conf/wire0/disable_ipv6").write_text("1", encoding="ascii")
    run(*OUTSIDE, "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1")
    run("ip", "-n", PEER, "link", "set", "wire1", "arp", "off")


@contextmanager
def flooded() -> Iterator[Callable[[], int]]:
    """A flood of frames to be dropped; the function says how many have come since it began."""
    before = sent_by_peer()
    with subprocess.Popen(python(OUTSIDE, FLOOD, frame(WORM).hex())) as process:
        assert eventually(lambda: sent_by_peer() > before)
        try:
            yield lambda: sent_by_peer() - before
        finally:
            process.kill()


def combined(*, xdp: bool = True) -> NftablesWithPrograms:
    return NftablesWithPrograms(
        "xdp", NftablesBackend(), lambda: XdpBackend(BPFFS, alone=False, xdp=xdp), required=True
    )


@pytest.fixture
def backend() -> Iterator[NftablesWithPrograms]:
    site.needs_isolation()
    with site.wire():
        silence()
        enforcing = combined()
        enforcing.apply(BLOCKED, Volatile())
        yield enforcing
        enforcing.close()
        withdraw_all(BPFFS)


def test_reports_and_losses_are_what_a_flood_has_sent(backend: NftablesWithPrograms) -> None:
    """Exactly, with a budget that is used up all the time, and with none that is."""
    reporting = backend.reporting
    for budget in (500, 10**6):
        reporting.set_budget(budget)
        reader = Reader(reporting)
        with flooded() as arrived:
            assert eventually(lambda: arrived() > 10_000, 60)
        assert eventually(lambda: reporting.blocked() == arrived())
        told, blocked = reader.end(), reporting.blocked()
        assert 0 < len(told) <= blocked
        assert len(told) == blocked or budget == 500
        assert all(report.packet == WORM for report in told)
        assert [report.at_ns for report in told] == sorted(report.at_ns for report in told)
        reporting.set_budget(0)


def test_programs_are_exchanged_in_a_flood_and_none_is_missed(
    backend: NftablesWithPrograms,
) -> None:
    """Other programs and maps, another policy, a set-aside, a ban: each drop was counted once."""
    reporting = backend.reporting
    reporting.set_budget(10**6)
    reader = Reader(reporting)
    with flooded() as arrived:
        for _ in range(3):
            backend.exchange_programs(
                "xdp",
                lambda: XdpBackend(BPFFS, alone=False),
                (BLOCKED, Volatile()),
                required=True,
            )
            backend.apply(policy(*FILTERS, "192.0.2.1=*"), Volatile())
            backend.apply(BLOCKED, Volatile())
        # More rules than there are counters take maps and programs of their own.
        many = (f"192.0.{number >> 8}.{number & 255}=*" for number in range(2000))
        (pinned,) = BPFFS.glob("maps-*")
        backend.apply(policy(*FILTERS, *many), Volatile())
        assert not pinned.exists()
        volatile = Volatile()
        ban = InForce(Origin("dynamic", "", "ban"), parse_filter("198.51.100.1=0"), Action.BLOCK)
        backend.change(volatile.change(add=rows_of([ban]), deadline=inf), volatile)
        before = reporting.blocked()
        assert eventually(lambda: reporting.blocked() > before + 100)

    # What came while they stood aside nftables has dropped, and counted among these.
    assert eventually(lambda: reporting.blocked() == arrived())
    assert 1000 < len(reader.end()) <= reporting.blocked()


def test_programs_that_failed_and_come_again_go_on_telling(
    backend: NftablesWithPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed they tell nothing, and what was counted stays; with the next state they tell."""
    reporting = backend.reporting
    reporting.set_budget(1000)
    inject(frame(PACKETS["udp"]))
    wait_for(reporting, 1)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise BackendFailed("not now", "later")

        patch.setattr(XdpBackend, "apply", refuse)
        backend.apply(policy("*=*:1434:UDP"), Volatile())
        assert backend.failures
    assert delivered(HERE4, 1434) == 0
    assert reporting.blocked() == 1
    backend.apply(BLOCKED, Volatile())
    assert not backend.failures
    inject(frame(PACKETS["udp"]), frame(PACKETS["walked"]))
    ports: list[bytes] = []
    while len(ports) < 2:
        select.select(reporting.descriptors(), [], [], 20 * PATIENCE)
        ports += [report.packet[20:24] for report in reporting.read(10)]
    assert reporting.blocked() == 3
    assert ports == [PACKETS["udp"][20:24], PACKETS["walked"][20:24]]


def limits() -> list[int]:
    """What the programs that are pinned may tell at most."""
    found = []
    for directory in BPFFS.glob("maps-*"):
        descriptor = libbpf.get_pinned(directory / "reporting")
        value = libbpf.look_up(descriptor, bytes(4), abi.REPORTING.size) or b""
        os.close(descriptor)
        found.append(abi.REPORTING.unpack(value)[0])
    return found


def switch_on_by_pin() -> None:
    """Do to the pinned programs what a process does that watches."""
    for directory in BPFFS.glob("maps-*"):
        descriptor = libbpf.get_pinned(directory / "reporting")
        libbpf.update(descriptor, bytes(4), abi.REPORTING.pack(7, 0))
        os.close(descriptor)
    assert limits() == [7]


def test_a_killed_process_leaves_it_on_and_the_next_one_switches_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether it adopts what is there, has programs follow, or makes its own at once."""
    site.needs_isolation()
    with site.wire():
        try:
            if not (child := os.fork()):
                killed = combined()
                killed.apply(BLOCKED, Volatile())
                killed.reporting.set_budget(1000)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            assert [limit > 0 for limit in limits()] == [True]
            adopting = combined()
            adopting.adopt()
            assert limits() == [0]
            adopting.close()
            switch_on_by_pin()
            monkeypatch.setattr("ipsecd.backend.combined.takes_long", lambda _: True)
            following = combined()
            following.put_off_programs()
            following.apply(BLOCKED, Volatile())
            assert AWAITED in following.probe()
            assert limits() == [0]
            switch_on_by_pin()
            assert following.load_programs(at_once)
            assert limits() == [0]
            following.close()
        finally:
            withdraw_all(BPFFS)


def test_a_process_that_ends_in_order_leaves_it_off() -> None:
    """Its programs go on, and tell nobody."""
    site.needs_isolation()
    with site.wire():
        try:
            backend = combined()
            backend.apply(BLOCKED, Volatile())
            backend.reporting.set_budget(1000)
            assert [limit > 0 for limit in limits()] == [True]
            backend.close()
            assert limits() == [0]
            assert delivered(HERE4, 1434) == 0
        finally:
            withdraw_all(BPFFS)
