"""What is blocked stays blocked: under crash, flush, restart and replacement, with a flood."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, PEER4, Daemon, Flood, delivered

pytestmark = pytest.mark.netns

SLAMMER = """policy: {name}
rules:
  - rule: Inbound
    action: block
    filters: ["*=0:1434:UDP"]
{more}"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def put(daemon: Daemon, name: str, more: str = "") -> None:
    daemon.put(SLAMMER.format(name=name, more=more))


@pytest.mark.usefixtures("daemon")
def test_a_flood_is_seen_without_a_policy() -> None:
    """The counting of the tests below can fail: without a policy the flood arrives."""
    with Flood() as flood:
        time.sleep(0.2)
        assert flood.received() > 0


def test_nothing_gets_through_a_crash_and_restart(daemon: Daemon) -> None:
    """SIGKILL, a dead daemon and a new one: no packet passes, and dynamic rules are there."""
    put(daemon, "A")
    daemon.ctl("block", PEER4, "--name", "bad")
    with Flood() as flood:
        daemon.end(signal.SIGKILL)
        time.sleep(0.5)
        daemon.start()
        time.sleep(0.3)
        assert flood.received() == 0
    assert "bad" in daemon.ctl("show", "dynamic")
    assert delivered(HERE4, 1435) == 0
    daemon.ctl("unblock", "bad")
    assert delivered(HERE4, 1435) == 5
    assert delivered(HERE4, 1434) == 0


def test_nothing_gets_through_a_flush_of_all_rules(daemon: Daemon) -> None:
    """``nft flush ruleset`` does not open the host, not for one packet."""
    put(daemon, "A")
    with Flood() as flood:
        for _ in range(20):
            site.run("nft", "flush", "ruleset")
        assert flood.received() == 0
    assert "in step" in daemon.ctl("status")


def test_nothing_gets_through_a_replacement(daemon: Daemon) -> None:
    """One policy in the place of another that both block the flow: no packet in between."""
    rules = '  - rule: Other\n    action: permit\n    filters: ["10.{n}.0.0/16=0:80:TCP"]\n'
    with_name = [f"P{n % 2}" for n in range(30)]
    put(daemon, "P0")
    with Flood() as flood:
        for number, name in enumerate(with_name):
            put(daemon, name, rules.format(n=number))
        assert flood.received() == 0


def test_nothing_gets_through_a_replacement_of_a_dynamic_rule(daemon: Daemon) -> None:
    """A rule in the place of one of its name, both blocking the flow: no packet in between."""
    filters = ("192.168.1.66=0:1434:UDP", "192.168.1.0/24=0:1434:UDP")
    for unrelated in ("10.1.1.1=0:9:UDP", "10.1.1.0/24=0:9:UDP"):
        daemon.ctl("block", unrelated)
    daemon.ctl("block", filters[0], "--name", "x")
    with Flood() as flood:
        for number in range(60):
            daemon.ctl("block", filters[number % 2], "--name", "x", "--replace")
        assert flood.received() == 0


def test_a_restart_that_hands_over_leaves_no_gap(daemon: Daemon) -> None:
    """SIGUSR1 ends the daemon and leaves everything in force for the next one."""
    put(daemon, "A")
    with Flood() as flood:
        daemon.end(signal.SIGUSR1)
        time.sleep(0.2)
        daemon.start()
        assert flood.received() == 0


def test_stopping_on_purpose_withdraws(daemon: Daemon) -> None:
    """SIGTERM is a stop: the table is gone, and the next start enforces again."""
    put(daemon, "A")
    daemon.end(signal.SIGTERM)
    assert "ipsecd" not in site.run("nft", "list", "tables")
    assert delivered(HERE4, 1434) == 5
    daemon.start()
    assert delivered(HERE4, 1434) == 0


@pytest.mark.parametrize("address", [HERE4, HERE6])
def test_fragments_of_a_blocked_datagram_are_not_delivered(daemon: Daemon, address: str) -> None:
    """A datagram larger than the link's packets is blocked like a small one."""
    assert delivered(address, 1434, size=4000) == 5
    put(daemon, "A")
    assert delivered(address, 1434, size=4000) == 0
    assert delivered(address, 1435, size=4000) == 5


def test_a_dynamic_rule_ends_by_itself(daemon: Daemon) -> None:
    """A time to live is ended by the kernel, even if the daemon is dead."""
    assert site.ends_without_the_daemon(daemon)


def test_a_broken_file_changes_nothing_that_is_in_force(daemon: Daemon) -> None:
    """A broken edit is refused by file and line on reload, and survives a restart as FAILED."""
    put(daemon, "A")
    file = next(daemon.policies.glob("*.yaml"))
    good = file.read_text()
    file.write_text(good + "  - nonsense\n")
    said = daemon.ctl("reload", code=1)
    assert f"{file}:" in said
    assert delivered(HERE4, 1434) == 0
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert delivered(HERE4, 1434) == 0
    assert "failed" in daemon.ctl("status", code=1).lower()
    file.write_text(good.replace("1434", "1435"))
    daemon.ctl("reload")
    assert delivered(HERE4, 1434) == 5
    assert delivered(HERE4, 1435) == 0
