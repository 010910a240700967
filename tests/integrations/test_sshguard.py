"""Tests of the backend for sshguard, with Debian's parser and blocker and real packets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd_bans.feed import MeaninglessError
from ipsecd_bans.sshguard import PREFIX, change_in
from tests.integrations.finders import (
    Running,
    come_to,
    environment,
    has_only_foreign,
    rules,
    script,
    sshguard,
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

MANY = 5000
ATTACK = "Nov 30 01:00:00 host sshd[1234]: Invalid user admin from {} port 40000\n"
LONG_S = 3600


@pytest.fixture
def backend(tmp_path: Path, daemon: Daemon) -> Iterator[Running]:
    """The backend alone."""
    words: list[str | Path] = [script(tmp_path, "sshguard")]
    with Running(words, tmp_path / "said", environment(daemon)) as started:
        yield started


@pytest.mark.netns
@pytest.mark.parametrize(("here", "peer"), [(HERE4, PEER4), (HERE6, PEER6)])
def test_attackers_in_the_log_are_blocked(
    daemon: Daemon, tmp_path: Path, here: str, peer: str
) -> None:
    """Until sshguard releases them; both versions of IP."""
    with sshguard(tmp_path / "guard", daemon, 1, tmp_path / "blacklist") as process:
        assert delivered(here, 1434) == 5
        process.say(ATTACK.format(peer) * 3)
        assert come_to(daemon, PREFIX, {peer}), process.said()
        assert eventually(lambda: has_only_foreign(daemon), 30), process.said()
        assert delivered(here, 1434) == 5


@pytest.mark.netns
@with_both_backends
def test_blocks_end_with_sshguard(daemon: Daemon, tmp_path: Path) -> None:
    """What it blocked for long passes when it has ended; its blacklist is blocked again."""
    blacklist = tmp_path / "blacklist"
    blacklist.write_text(f"1700000000|100|4|{PEER4}\n")
    for _ in range(2):
        with sshguard(tmp_path / "guard", daemon, LONG_S, blacklist) as process:
            assert come_to(daemon, PREFIX, {PEER4}), process.said()
            process.say(ATTACK.format(PEER6) * 3)
            assert come_to(daemon, PREFIX, {PEER4, PEER6}), process.said()
            assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
            process.close_input()
        assert has_only_foreign(daemon)


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2])
@with_both_backends
def test_a_daemon_that_comes_back_has_all_blocks(
    daemon: Daemon, backend: Running, number: signal.Signals
) -> None:
    """After a crash, and after a restart on purpose, which forgets all dynamic rules."""
    backend.say(f"block {PEER4} 4 32\nblock {PEER6} 6 128\n")
    assert come_to(daemon, PREFIX, {PEER4, PEER6}), backend.said()
    daemon.end(number)
    backend.say(f"release {PEER4} 4 32\nblock 203.0.113.7 4 24\n")
    daemon.start()
    assert come_to(daemon, PREFIX, {PEER6, "203.0.113.0/24"}), backend.said()
    assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (5, 0)


@pytest.mark.netns
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_an_earlier_run_has_left_ends(
    daemon: Daemon, tmp_path: Path, backend: Running, number: signal.Signals
) -> None:
    """A backend that is told to end takes its blocks with it, one that is killed the next does."""
    backend.say(f"block {PEER4} 4 32\n")
    assert come_to(daemon, PREFIX, {PEER4}), backend.said()
    backend.end(number)
    assert set(rules(daemon, PREFIX)) == ({PEER4} if number == signal.SIGKILL else set())
    words: list[str | Path] = [script(tmp_path, "sshguard")]
    with Running(words, tmp_path / "said again", environment(daemon)) as again:
        assert eventually(lambda: has_only_foreign(daemon)), again.said()
        again.say(f"block {PEER6} 6 128\n")
        assert come_to(daemon, PREFIX, {PEER6}), again.said()


@pytest.mark.netns
@with_both_backends
def test_many_blocks_come_and_go(daemon: Daemon, backend: Running) -> None:
    """A blacklist of thousands, released by a flush, and lines that mean nothing among them."""
    addresses = {f"10.0.{n >> 8}.{n & 255}" for n in range(MANY)}
    before = len(dynamic_entries(daemon))
    backend.say("".join(f"block {address} 4 32\n" for address in addresses))
    backend.say("flushonexit\nblock nobody 4 32\nshout\nblock 0.0.0.0 4 0\n\n")
    assert come_to(daemon, PREFIX, addresses, 60), backend.said()
    assert len(dynamic_entries(daemon)) == before + MANY
    backend.say(f"block 203.0.113.1 4 32\nflush\nblock {PEER4} 4 32\n")
    assert come_to(daemon, PREFIX, {PEER4}), backend.said()
    assert len(dynamic_entries(daemon)) == before + 1
    assert "'nobody/32' is no address" in backend.said()
    assert "is everybody" in backend.said()


@pytest.mark.parametrize(
    "line", ["block", "block 203.0.113.7", "block 203.0.113.7 4 33", "ban x 4 8"]
)
def test_what_is_no_command_is_refused(line: str) -> None:
    """Nothing is blocked by half a line."""
    with pytest.raises(MeaninglessError):
        change_in(line.split())
