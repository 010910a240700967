"""``monitor`` with a real daemon and real packets: what is shown is what was dropped, exactly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, OUTSIDE, PEER4, Daemon, run
from tests.pcapng_reader import packets

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

POLICY = """\
policy: "Net \\u2028 work"
rules:
  - rule: "No \\"worm\\" <b>"
    action: block
    filters: ["*=0:1434:UDP"]
  - rule: out
    action: block
    filters: ["0=*:99:UDP"]
"""
RULE = 'No "worm" <b>'


@pytest.fixture(scope="module", params=site.BACKENDS)
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    site.needs_isolation()
    with site.wire():
        made = Daemon(tmp_path_factory.mktemp("daemon"), request.param)
        # The flight recorder hears of packets all the time, and nobody is to be told here else.
        settings = made.directory / "ipsecd.yaml"
        settings.write_text("recorder: off\n")
        made.options = ("--config", str(settings))
        made.start()
        made.put(POLICY.replace("\\u2028", "-"))
        try:
            yield made
        finally:
            made.end()


class Watcher:
    """``ipsecctl monitor``, from the moment on at which it is told of packets."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ipsecctl", "monitor", *words],
            env=daemon.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        assert first.startswith(b"watching"), first + self._process.stderr.read()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    def line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> tuple[bytes, str]:
        """Press Ctrl-C; all that is printed from then on."""
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=60 * site.PATIENCE)
        assert self._process.returncode == 0, err
        return out, err.decode()


def send(count: int, port: int = 1434, address: str = HERE4) -> None:
    run(*OUTSIDE, sys.executable, "-c", site.SEND, address, str(port), str(count), "10")


def send_slowly(count: int) -> None:
    """Send in fifty parts: programs give each moment its share of what may be told a second."""
    for _ in range(50):
        send(count // 50)


def until_told(
    daemon: Daemon, count: int, *words: str, sending: Callable[[int], None] = send
) -> tuple[list[dict[str, Any]], int]:
    """What a watcher is told of `count` packets that are sent meanwhile, and how many it lost."""
    watcher = Watcher(daemon, "--json", *words)
    sending(count)
    told: list[dict[str, Any]] = []
    lost = 0
    while len(told) + lost < count:
        line = json.loads(watcher.line())
        lost = line.get("lost", lost)
        if "packet" in line:
            told.append(line)
    _, err = watcher.end()
    assert f"{count:,} blocked" in err
    return told, lost


def table() -> str:
    return run("nft", "list", "table", "inet", "ipsecd")


def gone(daemon: Daemon) -> None:
    """Wait until nobody is told of anything any more."""
    end = time.monotonic() + 20 * site.PATIENCE
    while "chain dropped" in table():
        assert time.monotonic() < end, daemon.log()
        time.sleep(0.02)


def test_each_packet_is_told_with_its_rule(daemon: Daemon) -> None:
    """Both IP versions, in and out, a rule of the policy and a dynamic one."""
    daemon.ctl("block", f"{PEER4}=0:53:UDP", "--name", "ban me")
    watcher = Watcher(daemon, "--json")
    send(1)
    send(1, address=HERE6)
    send(1, port=53)
    run(sys.executable, "-c", site.SEND, PEER4, "99", "1", "10")
    told = [json.loads(watcher.line()) for _ in range(4)]
    assert [(t["policy"], t["rule"], t["filter"], t["direction"]) for t in told] == [
        ("Net - work", RULE, "*=0:1434:UDP", "in"),
        ("Net - work", RULE, "*=0:1434:UDP", "in"),
        ("", "ban me", f"{PEER4}=0:53:UDP", "in"),
        ("Net - work", "out", "0=*:99:UDP", "out"),
    ]
    assert all(t["interface"] == "wire0" for t in told)
    for each in told:
        explained = json.loads(daemon.ctl("explain", "--json", each["packet"]))
        assert explained["by"]["rule"] == each["rule"]
        assert explained["decision"] == "block"
    assert watcher.end()[0] == b""
    daemon.ctl("unblock", "ban me")


def test_what_is_shown_and_what_is_lost_are_what_was_dropped(daemon: Daemon) -> None:
    """Under a flood, with a rate that is far too low; the counters of rules say the same."""
    before = counted(daemon)
    told, lost = until_told(daemon, 20_000, "--rate", "100")
    assert len(told) + lost == 20_000
    assert 0 < len(told) < 5000
    assert counted(daemon) - before == 20_000
    assert {each["rule"] for each in told} == {RULE}


def counted(daemon: Daemon) -> int:
    stats = json.loads(daemon.ctl("stats", "--json"))
    return sum(each["packets"] for each in stats["rules"] if each["rule"] == RULE)


def test_with_room_nothing_is_lost(daemon: Daemon) -> None:
    """As many as it asks for a second."""
    told, lost = until_told(daemon, 1000, "--rate", "10000", sending=send_slowly)
    assert (len(told), lost) == (1000, 0)


def test_nobody_notices_one_who_is_stuck_or_killed(daemon: Daemon) -> None:
    """Ten watch; then the table is as it was, and the daemon has answered all the while."""
    gone(daemon)
    before = table()
    watchers = [Watcher(daemon, "--json", "--rate", "10000") for _ in range(10)]
    stuck, killed, *alive = watchers
    stuck.process.send_signal(signal.SIGSTOP)
    killed.process.kill()
    send_slowly(500)
    for watcher in alive:
        assert all(json.loads(watcher.line())["rule"] == RULE for _ in range(500))
    assert "enforcing" in daemon.ctl("status")
    for watcher in alive:
        watcher.end()
    for each in (stuck, killed):
        each.process.kill()
        each.process.communicate()
    gone(daemon)
    # But for what was counted meanwhile.
    assert without_counts(table()) == without_counts(before)


def without_counts(text: str) -> list[str]:
    return [line for line in text.splitlines() if "packets" not in line]


def test_a_policy_that_changes_meanwhile_is_followed(daemon: Daemon) -> None:
    """Each packet is said to be of the rule that dropped it then."""
    watcher = Watcher(daemon, "--json")
    send(1)
    daemon.put(POLICY.replace("\\u2028", "-").replace("out\n", "other\n").replace("99", "98"))
    send(1)
    run(sys.executable, "-c", site.SEND, PEER4, "98", "1", "10")
    daemon.put(POLICY.replace("\\u2028", "-"))
    told = [json.loads(watcher.line())["rule"] for _ in range(3)]
    watcher.end()
    assert told == [RULE, RULE, "other"]


def test_filters_rules_and_counts_select(daemon: Daemon) -> None:
    """What is not selected is not lost."""
    by_filter = Watcher(daemon, "--json", "--count", "2", f"{PEER4}=0")
    by_rule = Watcher(daemon, "--rule", "out")
    send(1, address=HERE6)
    send(5)
    out, err = by_filter.process.communicate(timeout=60 * site.PATIENCE)
    assert [json.loads(line)["source"] for line in out.splitlines()] == [PEER4] * 2
    assert "2 shown" in err.decode()
    run(sys.executable, "-c", site.SEND, PEER4, "99", "1", "10")
    assert b"Net - work / out (0=*:99:UDP)" in by_rule.line()
    _, err_text = by_rule.end()
    assert "1 shown" in err_text
    assert " 0 of them lost" in err_text


def test_packets_in_a_file(daemon: Daemon, tmp_path: Path) -> None:
    """Whole, from their Ethernet header on, with the rule as a comment."""
    path = tmp_path / "drops.pcapng"
    watcher = Watcher(daemon, "--pcap", str(path), "--count", "3")
    send(3)
    watcher.process.communicate(timeout=60 * site.PATIENCE)
    found = packets(path.read_bytes())
    assert len(found) == 3
    for each in found:
        assert each["interface"] == "wire0"
        assert (each["link_type"], each["length"], len(each["data"])) == (1, 52, 52)
        assert each["data"][-10:] == b"x" * 10
        assert each["comment"] == f"block: Net - work / {RULE} (*=0:1434:UDP)"
        assert abs(each["us"] / 1e6 - time.time()) < 600


def test_a_closed_pipe_ends_it_quietly(daemon: Daemon) -> None:
    """As of any command whose output somebody has read enough of."""
    watcher = Watcher(daemon)
    assert watcher.process.stdout is not None
    watcher.process.stdout.close()
    send(1)
    assert watcher.process.wait(60 * site.PATIENCE) == 0
    assert watcher.process.stderr is not None
    assert watcher.process.stderr.read() == b""


def test_a_daemon_that_ends_leaves_nothing(daemon: Daemon) -> None:
    """Handed over, the rules tell of nothing any more; who watched is told."""
    watcher = Watcher(daemon)
    daemon.end(signal.SIGUSR1)
    _, err = watcher.process.communicate(timeout=60 * site.PATIENCE)
    assert watcher.process.returncode == 3, err
    assert "chain dropped" not in table()
    assert "1434" in table() or "policy_block" in table()
    daemon.start()
    assert until_told(daemon, 3)[1] == 0


def test_killed_it_leaves_what_the_next_one_takes_away(daemon: Daemon) -> None:
    """Until then the rules tell nobody, and drop all the same."""
    watcher = Watcher(daemon)
    daemon.end(signal.SIGKILL)
    watcher.process.communicate(timeout=60 * site.PATIENCE)
    assert "chain dropped" in table()
    daemon.start()
    gone(daemon)
    assert "counter dropped" not in table()
