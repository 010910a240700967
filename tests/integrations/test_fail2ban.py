"""Tests of the action for fail2ban, with Debian's fail2ban and real packets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.finders import (
    Fail2ban,
    come_to,
    fail2ban,
    has_only_foreign,
    rules,
    with_both_backends,
)
from tests.netns.site import (
    HERE4,
    HERE6,
    PEER4,
    PEER6,
    Daemon,
    delivered,
    dynamic_entries,
    eventually,
)

PREFIX = "fail2ban lab "
MANY = 2000

pytestmark = pytest.mark.netns


@pytest.fixture
def server(tmp_path: Path, daemon: Daemon) -> Iterator[Fail2ban]:
    """A jail for UDP 1434, and for TCP and UDP 80 and 8080 to 8089."""
    options = {"port": "1434,http,8080:8089", "protocol": "tcp,udp"}
    with fail2ban(tmp_path / "f2b", daemon, **options) as started:
        yield started


@with_both_backends
def test_attackers_in_the_log_are_blocked_on_the_ports_of_the_jail(
    daemon: Daemon, server: Fail2ban
) -> None:
    """Both versions of IP; until the end of the ban, which the kernel knows; unban ends it."""
    assert delivered(HERE4, 1434) == 5
    server.attack(PEER4, PEER6)
    assert come_to(daemon, PREFIX, {PEER4, PEER6}), server.log()
    filters, left_s = rules(daemon, PREFIX)[PEER6]
    ports = "80,1434,8080-8089"
    assert filters == [f"[{PEER6}]=0:{ports}:TCP", f"[{PEER6}]=0:{ports}:UDP"]
    assert left_s is not None
    assert 3500 < left_s <= 3600
    assert (delivered(HERE4, 1434), delivered(HERE6, 8085), delivered(HERE4, 1435)) == (0, 0, 5)
    server.client("set", "lab", "unbanip", PEER4)
    assert come_to(daemon, PREFIX, {PEER6})
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (5, 0)


def test_bans_end_with_fail2ban_and_come_back_with_it(daemon: Daemon, server: Fail2ban) -> None:
    """A server that ends takes its bans with it and nothing else; the next one has them again."""
    server.client("set", "lab", "banip", PEER4, "198.51.100.0/24")
    assert come_to(daemon, PREFIX, {PEER4, "198.51.100.0/24"}), server.log()
    server.end()
    assert has_only_foreign(daemon)
    server.start()
    assert come_to(daemon, PREFIX, {PEER4, "198.51.100.0/24"}), server.log()
    assert delivered(HERE4, 1434) == 0


def test_a_killed_server_leaves_bans_with_their_ends(daemon: Daemon, server: Fail2ban) -> None:
    """They hold, and the next server bans them once more, with the ends they had."""
    server.client("set", "lab", "banip", PEER4)
    assert come_to(daemon, PREFIX, {PEER4})
    server.end(signal.SIGKILL)
    (left_s,) = (left_s for _, left_s in rules(daemon, PREFIX).values())
    assert delivered(HERE4, 1434) == 0
    server.start()
    assert eventually(lambda: "Restore Ban" in server.log(), 20)
    (again_s,) = (left_s for _, left_s in rules(daemon, PREFIX).values())
    assert left_s is not None
    assert again_s is not None
    # fail2ban keeps the time of a ban in whole seconds.
    assert again_s <= left_s + 1
    assert delivered(HERE4, 1434) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
@with_both_backends
def test_a_daemon_that_comes_back_has_all_bans(
    daemon: Daemon, server: Fail2ban, number: signal.Signals
) -> None:
    """After a crash, and after a restart on purpose, which forgets all dynamic rules."""
    server.client("set", "lab", "banip", PEER4, PEER6)
    assert come_to(daemon, PREFIX, {PEER4, PEER6})
    daemon.end(number)
    server.client("set", "lab", "unbanip", PEER6)
    server.client("set", "lab", "banip", "198.51.100.1")
    daemon.start()
    assert come_to(daemon, PREFIX, {PEER4, "198.51.100.1"}), server.log()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 5)


def test_enforcement_that_starts_again_has_all_bans(daemon: Daemon, server: Fail2ban) -> None:
    """A stop of enforcement takes all dynamic rules away, and the daemon goes on running."""
    server.client("set", "lab", "banip", PEER4)
    assert come_to(daemon, PREFIX, {PEER4})
    daemon.ctl("net", "stop", "policyagent")
    server.client("set", "lab", "banip", PEER6)
    daemon.ctl("net", "start", "policyagent")
    assert come_to(daemon, PREFIX, {PEER4, PEER6}), server.log()


@with_both_backends
def test_a_reload_changes_bans_in_force(daemon: Daemon, server: Fail2ban) -> None:
    """They get the ports that the configuration has now, at once, and no ban is lost."""
    server.client("set", "lab", "banip", PEER4)
    assert come_to(daemon, PREFIX, {PEER4})
    server.client("reload")
    assert set(rules(daemon, PREFIX)) == {PEER4}
    server.jail(action="ipsecd-block.py[type=allports, protocol=all]")
    server.client("reload")
    assert rules(daemon, PREFIX)[PEER4][0] == [f"{PEER4}=0"], server.log()
    assert delivered(HERE4, 9999) == 0


def test_bans_can_outlive_fail2ban(daemon: Daemon, tmp_path: Path) -> None:
    """With keep=yes a restart of fail2ban leaves no moment without them; unban all does end them.

    A ban that never ends has no end in force either.
    """
    options = {"action": "ipsecd-block.py[type=allports, keep=yes]", "bantime": "-1"}
    with fail2ban(tmp_path / "f2b", daemon, **options) as server:
        server.client("set", "lab", "banip", PEER4)
        assert come_to(daemon, PREFIX, {PEER4})
        server.end()
        assert rules(daemon, PREFIX) == {PEER4: ([f"{PEER4}=0::TCP"], None)}
        server.start()
        # It takes its bans over in a thread of its own, after it has said that it is ready.
        assert eventually(lambda: PEER4 in server.client("get", "lab", "banip")), server.log()
        server.client("unban", "--all")
        assert eventually(lambda: has_only_foreign(daemon)), server.log()


def test_bans_grow_longer(daemon: Daemon, tmp_path: Path) -> None:
    """With bantime.increment who comes again is banned for longer, and the kernel knows it."""
    options = {"bantime.increment": "true", "bantime.formula": "ban.Time + 6", "bantime": "1"}
    with fail2ban(tmp_path / "f2b", daemon, **options) as server:
        server.attack(PEER4)
        assert eventually(lambda: "Unban" in server.log(), 20), server.log()
        assert come_to(daemon, PREFIX, set())
        server.client("set", "lab", "bantime", "3600")
        server.attack(PEER4)
        assert eventually(
            lambda: any((left_s or 0) > 3601 for _, left_s in rules(daemon, PREFIX).values()), 20
        ), server.log()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": "nosuchservice"}, "port='nosuchservice' is no number"),
        ({"action": "ipsecd-block.py[keep=maybe]"}, "keep='maybe' is neither yes nor no"),
        ({"action": "ipsecd-block.py[prot=udp]"}, "unexpected keyword argument 'prot'"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    daemon: Daemon, tmp_path: Path, options: dict[str, str], said: str
) -> None:
    """The server says so at its start, instead of banning something else."""
    server = Fail2ban(tmp_path / "f2b", daemon)
    server.jail(**options)
    server.start_refused()
    assert said in server.log()


def test_many_bans_are_in_the_kernel_and_go_at_once(daemon: Daemon, server: Fail2ban) -> None:
    """Each ban is there, and a flush of the jail takes all of them and nothing else."""
    before = len(dynamic_entries(daemon))
    server.jail(action="ipsecd-block.py[type=allports, protocol=all]")
    server.client("reload")
    addresses = {f"10.0.{n >> 8}.{n & 255}" for n in range(MANY)}
    server.client("set", "lab", "banip", *addresses)
    assert come_to(daemon, PREFIX, addresses, 60), server.log()[-2000:]
    assert len(dynamic_entries(daemon)) == before + MANY
    server.client("unban", "--all")
    assert has_only_foreign(daemon)
