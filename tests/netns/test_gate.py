"""XDP and an interface in its first moments, when no program can be on it yet."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ipsecd.backend.gate import Gate, Known
from tests.netns import site
from tests.netns.site import (
    HOST,
    OUTSIDE,
    PEER,
    SEND,
    Daemon,
    block,
    delivered,
    eventually,
    listening,
    python,
    run,
    send,
)

pytestmark = pytest.mark.netns

LATE = "192.168.9.1"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, "xdp") as running:
        yield running


def appear(name: str) -> None:
    """A new interface to the peer, up and with an address in one go."""
    commands = f"""
        link add {name} type veth peer name peer0 netns {PEER}
        address add {LATE}/24 dev {name}
        link set {name} up
    """
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)


def leaks(times: int, port: int = 1434) -> int:
    """What a listener gets of a flood over an interface that appears so often, and goes again."""
    with listening(HOST, "0.0.0.0", port) as heard:
        for _ in range(times):
            appear("late0")
            run("ip", "-n", PEER, "address", "add", "192.168.9.66/24", "dev", "peer0")
            run("ip", "-n", PEER, "link", "set", "peer0", "up")
            send(OUTSIDE, LATE, port, 2000)
            run("ip", "link", "delete", "late0")
        return heard()


def test_nothing_passes_a_new_interface_before_its_program(daemon: Daemon) -> None:
    """A flood over interfaces that appear again and again: nothing is delivered."""
    block(daemon, "*=0:1434:UDP")
    assert leaks(10) == 0
    assert "pass nothing until the programs know them" in daemon.ctl("status")


def test_without_the_gate_the_first_packets_pass(daemon: Daemon) -> None:
    """The flood can be seen to leak: the gate is what holds it back."""
    block(daemon, "*=0:1434:UDP")
    daemon.end(signal.SIGKILL)
    run("nft", "delete", "table", "inet", "ipsecd_gate")
    assert leaks(1) > 0


def test_an_interface_that_appears_while_the_daemon_is_dead_is_held(daemon: Daemon) -> None:
    """Without a daemon a new interface passes nothing; with one again, it passes what it may."""
    block(daemon, "*=0:1434:UDP")
    daemon.end(signal.SIGKILL)
    assert leaks(2) == 0
    assert leaks(1, 1435) == 0
    appear("late0")
    try:
        run("ip", "-n", PEER, "address", "add", "192.168.9.66/24", "dev", "peer0")
        run("ip", "-n", PEER, "link", "set", "peer0", "up")
        assert delivered(LATE, 1435) == 0
        assert delivered("192.168.9.66", 1435, to_peer=True) == 0
        # What was there before goes on.
        assert delivered(site.HERE4, 1435) == 5
        daemon.start()
        assert eventually(lambda: delivered(LATE, 1435) == 5)
        assert delivered("192.168.9.66", 1435, to_peer=True) == 5
        assert delivered(LATE, 1434) == 0
    finally:
        with suppress(AssertionError):
            run("ip", "link", "delete", "late0")


def test_where_nothing_is_blocked_there_is_no_gate(daemon: Daemon) -> None:
    """It comes with the first block and goes with the last, also with a dynamic one."""
    assert "ipsecd_gate" not in run("nft", "list", "tables")
    daemon.ctl("block", "udp/1434", "--name", "worm")
    assert "ipsecd_gate" in run("nft", "list", "tables")
    daemon.ctl("unblock", "worm")
    assert "ipsecd_gate" not in run("nft", "list", "tables")
    block(daemon, "*=0:1434:UDP")
    assert "ipsecd_gate" in run("nft", "list", "tables")
    daemon.end()
    assert "ipsecd_gate" not in run("nft", "list", "tables")


def test_a_gate_that_is_left_goes_when_nothing_is_blocked_any_more(daemon: Daemon) -> None:
    """A daemon that finds the gate of a dead one removes it if it blocks nothing."""
    daemon.ctl("block", "udp/1434")
    daemon.end(signal.SIGKILL)
    assert "ipsecd_gate" in run("nft", "list", "tables")
    daemon.start()
    assert "ipsecd_gate" not in run("nft", "list", "tables")


def test_a_gate_that_was_tampered_with_is_put_right() -> None:
    """Where the kernel does not protect the table, a foreign change is noticed and undone."""
    site.needs_isolation()
    gate = Gate()
    gate._flags = 0
    try:
        gate.close_but_for(Known(frozenset({2, 7})))
        assert gate.drift() == ()
        gate.close_but_for(Known(frozenset({7, 9})))
        listed = json.loads(run("nft", "-j", "list", "set", "inet", "ipsecd_gate", "covered"))
        assert len(listed["nftables"][1]["set"]["elem"]) == 2
        run("nft", "add", "element", "inet", "ipsecd_gate", "covered", "{ 3 }")
        assert gate.drift()
        gate.close_but_for(Known(frozenset({7, 9})))
        assert gate.drift() == ()
        run("nft", "flush", "chain", "inet", "ipsecd_gate", "arriving")
        assert gate.drift()
        gate.close_but_for(Known(frozenset({7, 9})))
        run("nft", "delete", "table", "inet", "ipsecd_gate")
        assert gate.drift()
        gate.close_but_for(Known(frozenset({7, 9})))
        assert "ipsecd_gate" in run("nft", "list", "tables")
    finally:
        gate.remove()
        gate.close()
    assert "ipsecd_gate" not in run("nft", "list", "tables")


def test_a_flush_of_the_ruleset_does_not_open_the_gate(daemon: Daemon) -> None:
    """What others do to nftables does not reach it while the daemon runs."""
    block(daemon, "*=0:1434:UDP")
    subprocess.run(["nft", "flush", "ruleset"], check=False)
    deadline = time.monotonic() + 3
    while "ipsecd_gate" not in run("nft", "list", "tables"):
        assert time.monotonic() < deadline
    assert leaks(2) == 0


def test_nothing_is_delivered_to_a_new_address_before_the_programs_know_it(daemon: Daemon) -> None:
    """A flood to an address that is added and removed again and again; also without a daemon."""
    block(daemon, "*=0:1434:UDP")
    run("ip", "-n", PEER, "route", "add", "192.168.9.0/24", "dev", "wire1")
    mac = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]["address"]
    run("ip", "-n", PEER, "neigh", "add", LATE, "lladdr", mac, "dev", "wire1")

    def leaked(port: int) -> int:
        with listening(HOST, "0.0.0.0", port) as heard:
            flood = python(OUTSIDE, SEND, LATE, str(port), str(10**9), "20")
            with subprocess.Popen(flood) as sending:
                for _ in range(5):
                    run("ip", "address", "add", f"{LATE}/32", "dev", "wire0")
                    time.sleep(0.2)
                    run("ip", "address", "del", f"{LATE}/32", "dev", "wire0")
                sending.kill()
            return heard()

    assert leaked(1434) == 0
    assert leaked(1435) > 0
    daemon.end(signal.SIGKILL)
    assert leaked(1434) == 0
    assert leaked(1435) == 0
    run("nft", "delete", "table", "inet", "ipsecd_gate")
    assert leaked(1434) > 0


def test_addresses_that_are_local_by_a_route_pass(daemon: Daemon) -> None:
    """The gate does not take a network that is routed to this host for new addresses."""
    run("ip", "route", "add", "local", "198.51.100.0/24", "dev", "lo")
    run("ip", "-n", PEER, "route", "add", "198.51.100.0/24", "via", site.HERE4)
    try:
        block(daemon, "*=0:1434:UDP")
        assert eventually(lambda: delivered("198.51.100.7", 1435) == 5)
    finally:
        run("ip", "route", "del", "local", "198.51.100.0/24", "dev", "lo")


def test_a_filter_that_names_no_me_needs_no_gate_for_addresses(daemon: Daemon) -> None:
    """Then a new address is judged rightly from the first packet on, and passes."""
    block(daemon, "203.0.113.0/24=*")
    assert "fib" not in run("nft", "list", "table", "inet", "ipsecd_gate")
    daemon.ctl("block", "udp/1434")
    assert "fib" in run("nft", "list", "table", "inet", "ipsecd_gate")
