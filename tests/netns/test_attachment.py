"""Where the programs are attached, and what becomes of it when others meddle or links change."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ipsecd.backend.xdp import libbpf
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point
from tests.frames import encode_udp
from tests.netns import site
from tests.netns.site import (
    BPFFS,
    HERE4,
    PEER,
    PEER4,
    Daemon,
    Flood,
    block,
    delivered,
    eventually,
    run,
)

pytestmark = pytest.mark.netns

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
TUNSETLINK, ARPHRD_INFINIBAND = 0x400454CD, 32
FOREIGN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int foreign(struct xdp_md *frame) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, "xdp") as running:
        yield running


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XDP program of somebody else, that lets everything pass."""
    directory = tmp_path_factory.mktemp("foreign")
    source, compiled = directory / "foreign.c", directory / "foreign.o"
    source.write_text(FOREIGN)
    include = f"-I/usr/include/{run('uname', '-m').strip()}-linux-gnu"
    run("clang", "-O2", "-g", "-target", "bpf", include, "-c", str(source), "-o", str(compiled))
    return compiled


def attached(name: str) -> bool:
    """Whether an XDP program is on an interface."""
    return "xdp" in json.loads(run("ip", "-j", "link", "show", name))[0]


def test_status_says_how_each_interface_is_covered(daemon: Daemon) -> None:
    """A veth pair takes programs in native mode, a bridge only in generic mode."""
    run("ip", "link", "add", "br0", "type", "bridge")
    try:
        assert eventually(lambda: "br0: generic" in daemon.ctl("status", "--json"))
        assert "wire0: native" in daemon.ctl("status", "--json")
    finally:
        run("ip", "link", "delete", "br0")
    assert eventually(lambda: "br0" not in daemon.ctl("status", "--json"))


def test_a_link_that_is_detached_by_force_is_put_back_and_logged(daemon: Daemon) -> None:
    """Neither ip link nor a detached link opens the host for longer than a second or so.

    If news of links come at the same moment, it is put back because of them and not logged.
    """
    block(daemon, "*=0:1434:UDP", "0=*:1434:UDP")
    subprocess.run(["ip", "link", "set", "wire0", "xdp", "off"], check=False)
    assert attached("wire0")
    assert delivered(HERE4, 1434) == 0
    for _ in range(5):
        for path in (BPFFS / "links").iterdir():
            run("bpftool", "link", "detach", "pinned", str(path))
        assert eventually(lambda: attached("wire0"))
        assert delivered(HERE4, 1434) == 0
        if logged := eventually(lambda: "foreign-change-undone" in daemon.log(), 2):
            break
    assert logged
    assert "in step" in daemon.ctl("status")


def test_a_foreign_program_stays_and_the_policy_is_enforced_behind_it(
    tmp_path: Path, foreign: Path
) -> None:
    """Where XDP is taken, packets are judged at tc ingress, and status says so."""
    site.needs_isolation()
    with site.wire():
        run("ip", "link", "set", "wire0", "xdp", "obj", str(foreign), "sec", "xdp")
        before = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]["xdp"]
        daemon = Daemon(tmp_path, "xdp")
        daemon.start()
        try:
            block(daemon, "*=0:1434:UDP")
            assert "wire0: tc" in daemon.ctl("status", "--json")
            said = daemon.ctl("doctor")
            assert "xdp can be used here" in said
            assert "wire0 has an XDP program of somebody else, foreign" in said
            assert delivered(HERE4, 1434) == 0
            assert delivered(HERE4, 1435) == 5
            now = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]["xdp"]
            assert now == before
        finally:
            daemon.end()
        assert delivered(HERE4, 1434) == 5


def test_ours_cannot_be_replaced_by_a_foreign_program(daemon: Daemon, foreign: Path) -> None:
    """The kernel keeps other programs off an interface whose link is ours."""
    block(daemon, "*=0:1434:UDP")
    done = subprocess.run(
        ["ip", "link", "set", "wire0", "xdp", "obj", str(foreign), "sec", "xdp"],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert delivered(HERE4, 1434) == 0


def test_changed_maps_are_noticed_and_put_right(daemon: Daemon) -> None:
    """Who writes into our maps changes the rules for a second, and is reported."""
    block(daemon, "*=0:1434:UDP")
    (state,) = [path / "state" for path in BPFFS.glob("maps-*")]
    run("bpftool", "map", "delete", "pinned", str(state), "key", "0", "0", "0", "0")
    assert eventually(lambda: "foreign-change-undone" in daemon.log())
    assert delivered(HERE4, 1434) == 0
    assert "in step" in daemon.ctl("status")


def test_a_new_interface_is_covered(daemon: Daemon) -> None:
    """An interface that appears later gets its programs, and what it gets is the whole policy."""
    block(daemon, "*=0:1434:UDP")
    run("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1", "netns", PEER)
    try:
        assert eventually(lambda: attached("late0"), 1)
        run("ip", "address", "add", "192.168.7.1/24", "dev", "late0")
        run("ip", "link", "set", "late0", "up")
        run("ip", "-n", PEER, "address", "add", "192.168.7.66/24", "dev", "late1")
        run("ip", "-n", PEER, "link", "set", "late1", "up")
        assert eventually(lambda: delivered("192.168.7.1", 1435) == 5)
        assert delivered("192.168.7.1", 1434) == 0
    finally:
        run("ip", "link", "delete", "late0")


def test_me_follows_the_addresses_of_the_host(daemon: Daemon) -> None:
    """A filter to me covers an address from a moment after it was added."""
    block(daemon, "*=0:1434:UDP")
    run("ip", "address", "add", "192.168.1.200/24", "dev", "wire0")
    assert eventually(lambda: "in step" in daemon.ctl("status"))
    assert delivered("192.168.1.200", 1434) == 0
    assert delivered("192.168.1.200", 1435) == 5


SEND_TAGGED = """
import socket, sys
mac, port, tags, count = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 5
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind(("wire1", 0))
udp = (4000).to_bytes(2, "big") + port.to_bytes(2, "big") + bytes((0, 12, 0, 0)) + b"worm"
head = bytes.fromhex("450000200000400040110000") + bytes((192, 168, 1, 66, 192, 168, 1, 1))
total = sum(int.from_bytes(head[n:n + 2], "big") for n in range(0, 20, 2))
total = 0xffff ^ ((total & 0xffff) + (total >> 16))
head = head[:10] + total.to_bytes(2, "big") + head[12:]
link = mac + bytes.fromhex("020000000001") + bytes.fromhex("81000000") * tags
for _ in range(count):
    sock.send(link + b"\\x08\\x00" + head + udp)
"""


def tagged(mac: str, port: int, tags: int) -> int:
    """How many of five datagrams in frames with so many tags of VLAN 0 are delivered."""
    with site.listening(site.HOST, HERE4, port) as heard:
        run(*site.python(site.OUTSIDE, SEND_TAGGED, mac, str(port), str(tags)))
        return heard()


@pytest.mark.parametrize("tags", [1, 2, 3, 5])
def test_priority_tags_are_seen_through(daemon: Daemon, tags: int) -> None:
    """Frames with 802.1p tags, which the stack takes off, are judged like those without.

    What has more than two passes nowhere while anything is blocked, as all that is unreadable.
    """
    mac = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]["address"].replace(":", "")
    assert tagged(mac, 1434, tags) == 5
    block(daemon, "*=0:1434:UDP")
    assert tagged(mac, 1434, tags) == 0
    assert tagged(mac, 1435, tags) == 5 or tags > 2


def test_a_port_of_a_bridge_is_no_way_around(daemon: Daemon) -> None:
    """What the stack takes from a port itself, past the bridge, and what is sent from there."""
    run("ip", "link", "add", "bridge0", "type", "bridge")
    try:
        run("ip", "address", "flush", "dev", "wire0")
        run("ip", "link", "set", "wire0", "master", "bridge0")
        run("ip", "address", "add", f"{HERE4}/24", "dev", "bridge0")
        run("ip", "link", "set", "bridge0", "up")
        assert eventually(lambda: tagged(LINK_LOCAL_GROUP, 1434, 0) == 5)
        assert sent_from_port(1434) == 5
        block(daemon, "*=0:1434:UDP", "0=*:1434:UDP")
        assert eventually(lambda: "in step" in daemon.ctl("status"))
        assert tagged(LINK_LOCAL_GROUP, 1434, 0) == 0
        assert sent_from_port(1434) == 0
        assert delivered(HERE4, 1435) == 5
    finally:
        run("ip", "link", "delete", "bridge0")


LINK_LOCAL_GROUP = "0180c200000e"
"""Frames to it are never forwarded by a bridge (IEEE 802.1D, table 7-10)."""

SEND_FROM_PORT = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wire0")
sock.bind((sys.argv[1], 0))
for _ in range(5):
    try:
        sock.sendto(b"worm", ("224.0.0.77", int(sys.argv[2])))
    except PermissionError:
        pass
"""
COUNT_SENT = """
import select, socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sock.bind(("wire1", 0))
print("ready", flush=True)
count = 0
while found := select.select([sock, sys.stdin], [], [])[0]:
    if sock in found:
        packet = sock.recv(2000)
        count += packet[9] == 17 and packet[22:24] == struct.pack(">H", int(sys.argv[1]))
    else:
        break
print(count, flush=True)
"""


def sent_from_port(port: int) -> int:
    """How many of five datagrams from a socket that is bound to the port reach the wire."""
    words = site.python(site.OUTSIDE, COUNT_SENT, str(port))
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as counting:
        assert counting.stdin is not None
        assert counting.stdout is not None
        counting.stdout.readline()
        run(*site.python(site.HOST, SEND_FROM_PORT, HERE4, str(port)))
        counting.stdin.close()
        return int(counting.stdout.readline())


def test_a_link_that_no_program_reads_is_judged_by_nftables(daemon: Daemon) -> None:
    """What has other headers than Ethernet's gets no program, and passes what it may."""
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH", b"odd0", IFF_TUN | IFF_NO_PI))
        fcntl.ioctl(tunnel, TUNSETLINK, ARPHRD_INFINIBAND)
        run("ip", "address", "add", "10.98.0.1/24", "dev", "odd0")
        run("ip", "link", "set", "odd0", "up")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("10.98.0.1", 1435))
            receiver.settimeout(0.4)
            packet = Packet(Point.ARRIVING, Family.IPV4, 0x0A620042, 0x0A620001, 17, 4000, 1435)
            os.write(tunnel, encode_udp(packet))
            assert receiver.recv(100) == b"worm"
            daemon.ctl("block", "udp/1434")
            os.write(tunnel, encode_udp(packet))
            assert receiver.recv(100) == b"worm"
            daemon.ctl("block", "udp/1435")
            os.write(tunnel, encode_udp(packet))
            with pytest.raises(TimeoutError):
                receiver.recv(100)
            assert "odd0" not in daemon.ctl("status", "--json")
    finally:
        os.close(tunnel)


def test_a_link_without_a_header_is_covered(daemon: Daemon) -> None:
    """Packets out of a tunnel, which have no link-layer header, are judged on its interface."""
    tunnel = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
        run("ip", "address", "add", "10.99.0.1/24", "dev", "tun0")
        run("ip", "link", "set", "tun0", "up")
        assert eventually(lambda: "tun0: " in daemon.ctl("status", "--json"))
        block(daemon, "*=0:1434:UDP", "0=*:1434:UDP")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind(("10.99.0.1", 0))
            listening.settimeout(0.4)
            _, port = listening.getsockname()
            packet = Packet(Point.ARRIVING, Family.IPV4, 0x0A630042, 0x0A630001, 17, 4000, port)
            os.write(tunnel, encode_udp(packet))
            assert listening.recv(100) == b"worm"
            daemon.ctl("block", f"udp/{port}")
            os.write(tunnel, encode_udp(packet))
            with pytest.raises(TimeoutError):
                listening.recv(100)
            os.set_blocking(tunnel, False)
            with suppress(BlockingIOError):
                while os.read(tunnel, 2000):
                    pass
            for out in (1434, 1435):
                with suppress(PermissionError):
                    listening.sendto(b"worm", ("10.99.0.66", out))
            sent = []
            with suppress(BlockingIOError):
                while data := os.read(tunnel, 2000):
                    sent.append(int.from_bytes(data[22:24], "big"))
            assert 1435 in sent
            assert 1434 not in sent
    finally:
        os.close(tunnel)


def test_the_kernel_ends_a_dynamic_rule_without_the_daemon(daemon: Daemon) -> None:
    """A time to live ends although the daemon is dead."""
    assert site.ends_without_the_daemon(daemon)


def test_later_fragments_follow_the_first_on_the_way_out(daemon: Daemon) -> None:
    """A datagram that is permitted leaves whole, though its later fragments have no ports."""
    block(daemon, "0=*::UDP")
    daemon.ctl("permit", "0=*:1435:UDP")
    assert delivered(PEER4, 1435, size=4000, to_peer=True) == 5
    assert delivered(PEER4, 1434, size=4000, to_peer=True) == 0


def test_counts_survive_a_restart(daemon: Daemon) -> None:
    """What a rule has matched is not forgotten by a new process."""
    block(daemon, "*=0:1434:UDP")
    assert delivered(HERE4, 1434) == 0
    before = json.loads(daemon.ctl("stats", "--json"))["rules"][0]["packets"]
    assert before >= 5
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert json.loads(daemon.ctl("stats", "--json"))["rules"][0]["packets"] >= before


def test_stopping_leaves_nothing_behind(daemon: Daemon) -> None:
    """Stopped on purpose, no program and no pin is left."""
    block(daemon, "*=0:1434:UDP")
    daemon.end()
    assert not BPFFS.exists()
    assert not attached("wire0")
    daemon.start()
    assert delivered(HERE4, 1434) == 0


def test_a_program_goes_although_somebody_else_looks_at_its_link(daemon: Daemon) -> None:
    """Its link is ended by a call: without its pin alone it would live as long as whoever looks."""
    daemon.ctl("block", "udp/1434")
    directory = BPFFS / "links"
    assert attached("wire0")
    looked_at = [libbpf.get_pinned(path) for path in directory.iterdir()]
    try:
        daemon.ctl("net", "stop", "policyagent")
        assert not attached("wire0")
        assert not any(
            libbpf.programs_at(index, libbpf.BPF_TCX_EGRESS) for index, _ in socket.if_nameindex()
        )
    finally:
        for descriptor in looked_at:
            os.close(descriptor)


@pytest.mark.parametrize("backends", [("nftables", "xdp"), ("xdp", "nftables")])
def test_one_backend_takes_over_from_the_other(daemon: Daemon, backends: tuple[str, str]) -> None:
    """Another backend in the settings: what is blocked stays so, and nothing old is left."""
    daemon.end()
    daemon.backend = backends[0]
    daemon.start()
    block(daemon, "*=0:1434:UDP")
    with Flood() as flood:
        daemon.end(signal.SIGKILL)
        daemon.backend = backends[1]
        daemon.start()
        time.sleep(0.2)
        assert flood.received() == 0
    assert run("nft", "list", "tables").splitlines() == ["table inet ipsecd"]
    assert BPFFS.exists() == (backends[1] == "xdp")
