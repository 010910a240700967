"""Forwarded packets: this host between a peer and a container that leaves under its address."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsecctl.exporting.nft_ruleset import TABLE, ruleset
from ipsecd.model.exemptions import ESSENTIALS
from tests.equality.rows import in_force
from tests.netns import site
from tests.netns.site import (
    HOST,
    PEER,
    PEER4,
    Daemon,
    block,
    eventually,
    hearing,
    inside,
    run,
    send,
)

pytestmark = pytest.mark.netns

BOX, BOX4 = "box", "10.88.0.5"


@contextmanager
def box() -> Iterator[None]:
    """A container behind this host, which translates addresses for it."""
    run("ip", "netns", "add", BOX)
    run("ip", "link", "add", "bridge0", "type", "veth", "peer", "name", "eth0", "netns", BOX)
    run("ip", "address", "add", "10.88.0.1/24", "dev", "bridge0")
    run("ip", "link", "set", "bridge0", "up")
    run("ip", "-n", BOX, "address", "add", f"{BOX4}/24", "dev", "eth0")
    run("ip", "-n", BOX, "link", "set", "eth0", "up")
    run("ip", "-n", BOX, "route", "add", "default", "via", "10.88.0.1")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    load("""
        table ip nat {
          chain post { type nat hook postrouting priority 100; oif wire0 masquerade; }
          chain pre { type nat hook prerouting priority -100;
            iif wire0 udp dport 8080 dnat to 10.88.0.5:1434
          }
        }
    """)
    try:
        assert eventually(lambda: out() == 5)
        yield
    finally:
        run("nft", "delete", "table", "ip", "nat")
        run("ip", "link", "delete", "bridge0")
        run("ip", "netns", "delete", BOX)


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running, box():
        yield running


def load(rules: str) -> None:
    """Have nft load rules of others."""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def arrives(source: str, target: str, address: str, port: int, listen: tuple[str, int]) -> int:
    """How many of five datagrams from one namespace to `address` reach a listener in another."""
    with hearing(inside(target), *listen) as heard:
        send(inside(source), address, port)
        return heard()


def out() -> int:
    """How many of five datagrams from the box to the peer's UDP 1434 arrive."""
    return arrives(BOX, PEER, PEER4, 1434, (PEER4, 1434))


def published() -> int:
    """How many of five datagrams from the peer to the port that the box publishes arrive."""
    return arrives(PEER, BOX, site.HERE4, 8080, (BOX4, 1434))


def test_what_leaves_under_our_address_is_ours(daemon: Daemon) -> None:
    """A block of what this host sends covers what a container sends out under its address."""
    assert out() == 5
    daemon.ctl("block", "0=*:1434:UDP")
    assert out() == 0
    daemon.ctl("flush")
    assert out() == 5


def test_a_published_port_is_a_port_of_this_host(daemon: Daemon) -> None:
    """A block of a port of this host covers what is translated from it to a container."""
    assert published() == 5
    daemon.ctl("block", "udp/8080")
    assert published() == 0
    daemon.ctl("flush")
    daemon.ctl("block", "udp/1434")
    assert published() == 5


def test_a_permit_of_the_original_source_keeps_its_rank(daemon: Daemon) -> None:
    """A permit that names the container is an exception although the packet leaves as ours."""
    block(daemon, "0=*:1434:UDP")
    assert out() == 0
    daemon.ctl("permit", f"{BOX4}=*:1434:UDP", "--name", "box")
    assert out() == 5
    rules = json.loads(daemon.ctl("stats", "--json"))["rules"]
    assert next(rule["packets"] for rule in rules if rule["rule"] == "box") == 5
    daemon.ctl("unblock", "box")
    assert out() == 0


def pings() -> bool:
    """Whether an echo request of the box is answered by the peer."""
    words = (*inside(BOX), "ping", "-c", "1", "-W", "1", PEER4)
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_permit_of_a_type_of_icmp_keeps_its_rank(daemon: Daemon) -> None:
    """What connection tracking keeps of a message is its type and code as it arrived."""
    assert eventually(pings)
    daemon.ctl("block", "0=*::ICMP", "--name", "mine")
    assert not pings()
    daemon.ctl("permit", f"{BOX4}=*::ICMP/echo-reply", "--name", "box")
    assert not pings()
    daemon.ctl("unblock", "box")
    daemon.ctl("permit", f"{BOX4}=*::ICMP/echo-request/0", "--name", "box", "--replace")
    assert pings()


def test_a_forwarded_packet_is_judged_by_its_own_addresses(daemon: Daemon) -> None:
    """A filter that names the container blocks it, when the packet arrives to be forwarded."""
    daemon.ctl("block", f"{BOX4}=*:1434:UDP")
    assert out() == 0
    daemon.ctl("flush")
    daemon.ctl("block", f"*={PEER4}:1434:UDP")
    assert out() == 0


def sent(address: str, port: int) -> int:
    """How many of five datagrams that this host sends reach UDP 1434 of the box."""
    with hearing(inside(BOX), BOX4, 1434) as heard:
        send(HOST, address, port)
        return heard()


def test_what_this_host_sends_is_judged_before_its_destination_is_translated(
    daemon: Daemon,
) -> None:
    """A filter sees the address and port that a local program wrote, not what they become."""
    load("""
        table ip nat {
          chain out { type nat hook output priority -100;
            ip daddr 203.0.113.9 udp dport 7000 dnat to 10.88.0.5:1434
          }
        }
    """)
    run("ip", "route", "add", "203.0.113.9/32", "via", PEER4)
    try:
        assert sent("203.0.113.9", 7000) == 5
        daemon.ctl("block", "0=203.0.113.9:7000:UDP", "--name", "written")
        assert eventually(lambda: sent("203.0.113.9", 7000) == 0)
        assert sent(BOX4, 1434) == 5
        daemon.ctl("unblock", "written")
        daemon.ctl("block", f"0={BOX4}:1434:UDP", "--name", "becomes")
        assert eventually(lambda: sent("203.0.113.9", 7000) == 5)
        assert sent(BOX4, 1434) == 0
        run("nft", "delete", "chain", "ip", "nat", "out")
        assert sent(BOX4, 1434) == 0
    finally:
        run("ip", "route", "del", "203.0.113.9/32")


def test_an_export_judges_what_is_forwarded_likewise() -> None:
    """A table of nft that was exported knows what left under our address, and what arrived."""
    site.needs_isolation()
    blocked, container = "[0=*:1434:UDP]", f"({BOX4}=*:1434:UDP)"
    with site.wire(), box():
        for policy, wanted in (
            ((blocked,), (0, 5)),
            ((blocked, container), (5, 5)),
            ((blocked, "(*=*:1434:UDP)"), (0, 5)),
            (("[*=0:8080:UDP]",), (5, 0)),
            (("[*=0:1434:UDP]",), (5, 5)),
            ((f"[*={PEER4}:1434:UDP]",), (0, 5)),
            ((f"[*={BOX4}]",), (5, 5)),
        ):
            load(ruleset(in_force(policy), ESSENTIALS, {}, drop_unparsable=True))
            assert (out(), published()) == wanted, policy
        # What is delivered here because it was translated was judged as it arrived.
        load("""
            table ip nat {
              chain here { type nat hook prerouting priority -99;
                iif wire0 udp dport 8081 redirect to :1434
              }
            }
        """)
        load(ruleset(in_force(("[*=0:1434:UDP]",)), ESSENTIALS, {}, drop_unparsable=True))
        with hearing(HOST, site.HERE4, 1434) as heard:
            send(inside(PEER), site.HERE4, 8081)
            assert heard() == 5
        run("nft", "delete", "table", "inet", TABLE)
