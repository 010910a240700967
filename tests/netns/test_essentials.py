"""What is lost without an essential: a download over a narrow link, and a host behind a switch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import (
    HERE6,
    OUTSIDE,
    PEER,
    PEER4,
    PEER6,
    Daemon,
    eventually,
    python,
    run,
    serving,
)

pytestmark = pytest.mark.netns

FAR = "far"
FAR4, FAR6, NARROW = "10.9.9.9", "fd0a::9", 1300
PORT, LENGTH = 8000, 300_000
DENY = """policy: Deny
rules:
  - rule: Nothing
    action: block
    filters: ["0+*"]
  - rule: Downloads
    action: permit
    filters: ["*+0:8000:TCP"]
  - rule: Pings
    action: permit
    filters: ["*+0::ICMP/echo-request", "*+0::ICMP/echo-reply"]
"""

SERVE = """
import socket, sys
listeners = []
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, int(sys.argv[1])))
    sock.listen()
    listeners.append(sock)
import select
print("ready", flush=True)
while True:
    for sock in select.select(listeners, [], [])[0]:
        connection, _ = sock.accept()
        connection.settimeout(1)
        try:
            connection.sendall(bytes(int(sys.argv[2])))
        except OSError:
            pass
        connection.close()
"""
FETCH = """
import socket, sys
got = 0
try:
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
    while data := sock.recv(65536):
        got += len(data)
except OSError:
    pass
print(got)
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def deny(daemon: Daemon, *essentials: str) -> None:
    """Let nothing pass but downloads, pings and these essentials."""
    config = daemon.directory / "etc" / "ipsecd.yaml"
    config.write_text(f"essentials: [{', '.join(essentials)}]\n")
    daemon.end()
    daemon.start()
    daemon.put(DENY)


@contextmanager
def narrow_link() -> Iterator[None]:
    """A host behind the peer, at the end of a link for packets of at most 1,300 bytes."""
    run("ip", "netns", "add", FAR)
    try:
        run("ip", "-n", PEER, "link", "add", "far0", "type", "veth", "peer", "name", "far1",
            "netns", FAR)  # fmt: skip
        for name, link, last in ((PEER, "far0", "1"), (FAR, "far1", "9")):
            run("ip", "-n", name, "address", "add", f"10.9.9.{last}/24", "dev", link)
            run("ip", "-n", name, "address", "add", f"fd0a::{last}/64", "dev", link, "nodad")
            run("ip", "-n", name, "link", "set", link, "up")
        # Only on the way there, so that the far host itself does not know of it.
        run("ip", "-n", PEER, "link", "set", "far0", "mtu", str(NARROW))
        run(*OUTSIDE, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("ip", "-n", FAR, "route", "add", "default", "via", "10.9.9.1")
        run("ip", "-n", FAR, "-6", "route", "add", "default", "via", "fd0a::1")
        run("ip", "route", "add", "10.9.9.0/24", "via", PEER4)
        run("ip", "-6", "route", "add", "fd0a::/64", "via", PEER6)
        yield
    finally:
        run("ip", "route", "del", "10.9.9.0/24", check=False)
        run("ip", "-6", "route", "del", "fd0a::/64", check=False)
        run("ip", "netns", "delete", FAR)


def downloaded(address: str, seconds: float) -> int:
    """How many bytes the far host gets of a download, if nothing comes for so long at most."""
    # What this host has learned of the path before must not count.
    run("ip", "route", "flush", "cache")
    run("ip", "-6", "route", "flush", "cache")
    words = python(site.inside(FAR), FETCH, address, str(PORT), str(seconds))
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("address", [site.HERE4, HERE6])
def test_a_download_over_a_narrow_link(daemon: Daemon, address: str) -> None:
    """Without path MTU it stalls at the first full packet; with it, all of it arrives."""
    with narrow_link(), serving(site.HOST, SERVE, str(PORT), str(LENGTH)):
        deny(daemon, "neighbour-discovery", "dhcp-client")
        assert downloaded(address, 2) < LENGTH
        deny(daemon, "neighbour-discovery", "dhcp-client", "path-mtu")
        assert downloaded(address, 20 * site.PATIENCE) == LENGTH


@contextmanager
def switch() -> Iterator[None]:
    """A bridge in the place of the wire, which passes multicast only to those who report for it."""
    run("ip", "-n", PEER, "link", "add", "switch0", "type", "bridge", "mcast_snooping", "1",
        "mcast_querier", "1", "mcast_query_interval", "50", "mcast_query_response_interval", "20",
        "mcast_membership_interval", "100", "mcast_startup_query_interval", "20",
        "mcast_querier_interval", "100")  # fmt: skip
    run("ip", "-n", PEER, "link", "add", "host0", "type", "veth", "peer", "name", "port0")
    for link in ("wire1", "port0"):
        run("ip", "-n", PEER, "link", "set", link, "master", "switch0")
    run("ip", "-n", PEER, "address", "flush", "dev", "wire1")
    run("ip", "-n", PEER, "address", "add", f"{PEER6}/64", "dev", "host0", "nodad")
    for link in ("wire1", "port0", "switch0", "host0"):
        run("ip", "-n", PEER, "link", "set", link, "up")
    yield


def is_reached() -> bool:
    """Whether the peer reaches this host, after it has forgotten the hardware address."""
    run("ip", "-n", PEER, "neighbour", "flush", "dev", "host0")
    ping = run(*OUTSIDE, "ping", "-c", "1", "-W", "1", HERE6, check=False)
    return "1 received" in ping


def test_a_host_behind_a_switch_that_looks_who_listens(daemon: Daemon) -> None:
    """Without reports it is forgotten, and solicitations for its address do not reach it."""
    with switch():
        deny(daemon, "neighbour-discovery", "dhcp-client", "path-mtu")
        assert eventually(is_reached)
        for _ in range(3):
            # Longer than the switch keeps what was reported.
            assert not eventually(lambda: not is_reached(), 1 / site.PATIENCE)
        deny(daemon, "dhcp-client", "path-mtu")
        # Discovery of neighbours by itself, without the listeners.
        daemon.ctl("permit", "*+*::ICMPv6/133", "*+*::ICMPv6/134", "*+*::ICMPv6/135",
                   "*+*::ICMPv6/136")  # fmt: skip
        assert eventually(lambda: not is_reached(), 20)
