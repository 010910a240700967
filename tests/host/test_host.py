"""What the host is: the same as a full decoder reads, in a tenth of the time."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsecd.backend.xdp.events import Events
from ipsecd.host.interfaces import HostReader, read_host
from ipsecd.model.addresses import Family
from tests.host.reference_host import reference_host
from tests.netns.site import needs_isolation, run

CLONE_NEWNET = 0x40000000
LINKS = """
link set lo up
link add veth type veth peer name far netns other
link add pair0 type veth peer name pair1
link add bridge type bridge
link set pair1 master bridge
link add vxlan type vxlan id 4 dstport 4789 dev veth
tuntap add tun mode tun
tuntap add tap mode tap
link add wwan0 type veth peer name plain
link set veth up
link set bridge up
link set tun up
link set wwan0 up
address add 192.0.2.2/24 broadcast + dev veth
address add 192.0.2.9/24 dev veth
address add 198.51.100.1 peer 198.51.100.2/32 dev tun
address add 10.0.0.1/8 dev bridge
address add 2001:db8::1/64 dev veth nodad
address add 2001:db8:1::1 peer 2001:db8:1::2/128 dev tun nodad
route add local 203.0.113.0/24 dev lo
route add local 2001:db8:2::/48 dev lo
route add local 203.0.114.1 dev lo
route add anycast 2001:db8:3::/128 dev veth table local
route add 203.0.115.0/24 dev veth
"""
OPTIONAL = """
link add dummy type dummy
link add link veth name veth.7 type vlan id 7
link add bond type bond
link add slave type dummy
link set slave master bond
link add link veth macvlan type macvlan
link add gre type gre remote 192.0.2.1 local 192.0.2.2
link add ipip type ipip remote 192.0.2.1 local 192.0.2.2
link add wireguard type wireguard
"""
"""Links that not every kernel has."""


@contextmanager
def own_namespace() -> Iterator[None]:
    """A network namespace of its own for this thread, and so for what it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)


@pytest.fixture
def namespace() -> Iterator[None]:
    needs_isolation()
    with own_namespace():
        yield


def batch(path: Path, lines: Iterable[str]) -> None:
    """Have `ip` carry out many commands at once."""
    path.write_text("\n".join(lines) + "\n")
    run("ip", "-batch", str(path))


def many_addresses(count: int) -> list[str]:
    """Consecutive ones, ones in networks of their own, ones that agree in their last bits."""
    patterns = (
        lambda n: f"2001:db8:a::{n + 1:x}/112",
        lambda n: f"2001:db8:b:{n:x}::{n * 7919 % 0xFFFF:x}/64",
        lambda n: f"2001:db8:c:{n:x}::1/64",
    )
    return [patterns[n % 3](n // 3) for n in range(count)]


@pytest.mark.usefixtures("namespace")
def test_it_is_what_a_full_decoder_reads(tmp_path: Path) -> None:
    """Every kind of link, address and local route comes out as pyroute2 tells it."""
    run("ip", "netns", "add", "other")
    try:
        batch(tmp_path / "links", LINKS.strip().splitlines())
        for line in OPTIONAL.strip().splitlines():
            run("ip", *line.split(), check=False)
        program = ("object", str(accepting(tmp_path)), "section", "xdp")
        run("ip", "link", "set", "pair0", "xdpgeneric", *program)
        state = read_host()
        assert state == reference_host()
        links = {link.name: link for link in state.interfaces}
        assert links["veth"].lower == 0
        assert links["pair0"].lower == links["pair1"].index
        assert links["pair1"].port_of == "bridge"
        assert links["vxlan"].kind == "vxlan"
        assert links["tun"].bare
        assert links["tun"].addresses[0] == "198.51.100.1/32"
        assert links["pair0"].xdp[0][0] == 2
        assert (Family.IPV4, 0xC00002FF) in state.host.broadcasts
        assert (Family.IPV4, 0xCB007201) in state.host.addresses
        assert "203.0.113.0" not in links["lo"].addresses
        assert len(state.local_networks) == 3
    finally:
        run("ip", "netns", "delete", "other")


def accepting(directory: Path) -> Path:
    """An XDP program that lets everything pass."""
    source, compiled = directory / "pass.c", directory / "pass.o"
    source.write_text('__attribute__((section("xdp"), used)) int pass(void *c) { return 2; }\n')
    run("clang", "-O2", "-target", "bpf", "-c", str(source), "-o", str(compiled))
    return compiled


@pytest.mark.usefixtures("namespace")
def test_what_is_read_again_is_what_is_there_then(tmp_path: Path) -> None:
    """Whatever came, went or changed since; what stayed is known already."""
    reader = HostReader()
    assert reader() == reference_host()
    for lines in (
        ["link set lo up", "link add one type bridge", "address add 192.0.2.1/24 dev one"],
        ["link set one up", "address add 2001:db8::1/64 dev one nodad"],
        ["address add 192.0.2.2/24 dev one", "route add local 203.0.113.0/24 dev lo"],
        ["address delete 192.0.2.1/24 dev one", "address change 192.0.2.2/24 dev one metric 7"],
        ["route delete local 203.0.113.0/24 dev lo", "address add 192.0.2.2/32 dev lo"],
        ["link delete one"],
    ):
        batch(tmp_path / "lines", lines)
        assert reader() == reference_host(), lines


@pytest.mark.usefixtures("namespace")
def test_a_link_may_have_any_name() -> None:
    """A name that is no UTF-8 is told with what it has instead."""
    name = b"od\xff\xfed"
    run("ip", "link", "add", os.fsdecode(name), "type", "bridge")
    assert r"od\xff\xfed" in read_host().types


@pytest.mark.usefixtures("namespace")
def test_an_empty_namespace_is_read() -> None:
    """The local table of a namespace without addresses may not exist yet."""
    state = read_host()
    assert state == reference_host()
    assert not state.host.addresses


@pytest.mark.usefixtures("namespace")
def test_ten_thousand_addresses_and_hundreds_of_links_are_read_at_once(tmp_path: Path) -> None:
    """What is read at every piece of news takes a fraction of a second of computing."""
    links = [f"link add d{n} type bridge" for n in range(200)]
    addresses = many_addresses(10_000)
    run("ip", "link", "set", "lo", "up")
    batch(tmp_path / "batch", [*links, *(f"address add {a} dev lo nodad" for a in addresses)])
    took = []
    for _ in range(3):
        begin = time.thread_time()
        state = read_host()
        took.append(time.thread_time() - begin)
    assert len(state.interfaces) >= 201
    assert len(state.host.addresses) >= 10_000
    assert min(took) < 0.4, took


@pytest.mark.usefixtures("namespace")
def test_events_tell_news_from_the_timer(tmp_path: Path) -> None:
    """Only a change of links or addresses counts as news."""
    events = Events()
    try:
        assert not events.drain()
        run("ip", "link", "add", "new", "type", "bridge")
        assert events.drain()
        assert not events.drain()
        batch(tmp_path / "batch", [f"link add d{n} type bridge" for n in range(20)])
        assert events.drain()
        assert not events.drain()
    finally:
        events.close()
