"""A link or an address in its first moments, when no program knows it; and with a dead daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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
)

pytestmark = pytest.mark.netns

LATE = "192.168.9.1"


@pytest.fixture(params=["nftables", "xdp"])
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
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
            run(*python(OUTSIDE, SEND, LATE, str(port), "2000", "20"))
            run("ip", "link", "delete", "late0")
        return heard()


def test_nothing_that_is_blocked_passes_a_new_interface(daemon: Daemon) -> None:
    """A flood over interfaces that appear again and again; what is open is open at once."""
    block(daemon, "*=0:1434:UDP")
    assert leaks(10) == 0
    assert leaks(1, 1435) == 2000
    daemon.end(signal.SIGKILL)
    assert leaks(2) == 0
    assert leaks(1, 1435) == 2000


def test_an_interface_that_appears_while_the_daemon_is_dead_is_judged(daemon: Daemon) -> None:
    """What it may pass it passes, without a daemon and with one again."""
    block(daemon, "*=0:1434:UDP", "0=*:1434:UDP")
    daemon.end(signal.SIGKILL)
    appear("late0")
    try:
        run("ip", "-n", PEER, "address", "add", "192.168.9.66/24", "dev", "peer0")
        run("ip", "-n", PEER, "link", "set", "peer0", "up")
        for alive in (False, True):
            if alive:
                daemon.start()
            assert delivered(LATE, 1434) == 0
            assert delivered("192.168.9.66", 1434, to_peer=True) == 0
            assert delivered(LATE, 1435) == 5
            assert delivered("192.168.9.66", 1435, to_peer=True) == 5
    finally:
        with suppress(AssertionError):
            run("ip", "link", "delete", "late0")


def test_nothing_that_is_blocked_is_delivered_to_a_new_address(daemon: Daemon) -> None:
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
    assert leaked(1435) > 0


def test_an_address_that_the_programs_do_not_know_is_open_where_it_may_be(tmp_path: Path) -> None:
    """With everything blocked but a port, a new address answers on it, with a dead daemon too."""
    with site.daemon(tmp_path, "xdp") as daemon:
        block(daemon, "*=*::UDP", "*=0::UDP")
        daemon.ctl("permit", "*=0:1435:UDP")
        assert delivered(site.HERE4, 1435) == 5
        daemon.end(signal.SIGKILL)
        run("ip", "address", "add", "192.168.1.200/24", "dev", "wire0")
        assert delivered("192.168.1.200", 1435) == 5
        assert delivered("192.168.1.200", 1434) == 0
        daemon.start()


def test_addresses_that_are_local_by_a_route_are_this_host_too(daemon: Daemon) -> None:
    """A network that is routed to this host is judged like its addresses."""
    run("ip", "route", "add", "local", "198.51.100.0/24", "dev", "lo")
    run("ip", "-n", PEER, "route", "add", "198.51.100.0/24", "via", site.HERE4)
    try:
        block(daemon, "*=0:1434:UDP")
        assert eventually(lambda: delivered("198.51.100.7", 1435) == 5)
        assert delivered("198.51.100.7", 1434) == 0
    finally:
        run("ip", "route", "del", "local", "198.51.100.0/24", "dev", "lo")
