"""What rules have matched, with a real daemon and real packets, over all that may happen to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TypeVar

import pytest

from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule
from tests.netns import site
from tests.netns.site import HERE4, OUTSIDE, Daemon, Flood, eventually, run, send

pytestmark = pytest.mark.netns
CLOSED = 1434
BLOCK, MANY = Action.BLOCK, 10_000
T = TypeVar("T")
LISTED = 1435
LISTING = """  - rule: Peers
    action: block
    filters: ["@peers=0:1435:UDP"]
"""
POLICY = """policy: {name}
rules:
  - rule: Worm
    action: block
    filters: ["*=0:{port}:UDP"]
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        running.put(POLICY.format(name="P", port=CLOSED))
        yield running


def counted(daemon: Daemon, name: str = "Worm") -> int:
    rules = json.loads(daemon.ctl("stats", "--json"))["rules"]
    return sum(
        rule["packets"] for rule in rules if name in (rule["rule"], *(rule["address"] or ()))
    )


def counted_entries(daemon: Daemon) -> dict[str, int]:
    """What the entries of the list have matched that have matched anything."""
    reply = json.loads(daemon.ctl("list", "show", "peers", "--counters", "--json"))
    return {each["entry"]: each["packets"] for each in reply["counters"]["entries"]}


def kept(daemon: Daemon) -> int:
    """What the file has of the rule that its counters do not hold any more."""
    text = (daemon.directory / "lib/counters").read_text().partition("\n")[2]
    return sum(rule[6] for rule in json.loads(text)["rules"] if rule[2] == "Worm")


def test_counts_are_exact_over_all_that_happens_to_a_daemon(daemon: Daemon) -> None:
    """Other policies, killed, restarted on purpose, stopped, upgraded; also those of entries."""
    expected = listed = 0
    around = f"{site.PEER4.rpartition('.')[0]}.0/24"
    (daemon.directory / "peers.txt").write_text(f"{site.PEER4}\n{around}\n192.0.2.1\n")
    path = str(daemon.directory / "peers.txt")
    daemon.ctl("list", "create", "peers", "--count", "--from", path, "--accept")

    def blocked(packets: int) -> None:
        nonlocal expected, listed
        send(OUTSIDE, HERE4, CLOSED, packets)
        send(OUTSIDE, HERE4, LISTED, packets)
        expected += packets
        listed += packets
        assert counted(daemon) == expected
        assert counted_entries(daemon) == {site.PEER4: listed}

    daemon.put(POLICY.format(name="P", port=CLOSED) + LISTING)
    blocked(5)
    daemon.ctl("list", "add", "peers", "192.0.2.2")
    daemon.ctl("list", "remove", "peers", "192.0.2.2")
    daemon.ctl("policy", "unassign")
    assert eventually(lambda: kept(daemon) == 5)
    daemon.ctl("policy", "assign", "P")
    blocked(3)
    for number in (signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        send(OUTSIDE, HERE4, CLOSED, 2)
        expected += 2
        daemon.end(number)
        daemon.start()
        blocked(1)
    daemon.ctl("net", "stop", "policyagent")
    daemon.ctl("net", "start", "policyagent")
    blocked(1)
    other = "nftables" if daemon.backend != "nftables" else "xdp"
    daemon.ctl("backend", other)
    blocked(1)
    daemon.ctl("list", "remove", "peers", site.PEER4)
    send(OUTSIDE, HERE4, LISTED, 3)
    assert counted_entries(daemon) == {around: 3}


def test_under_a_flood_nothing_is_lost_when_policies_change(daemon: Daemon) -> None:
    """Every packet that was sent has been counted once, by the rule that was in force then."""
    daemon.put(POLICY.format(name="Q", port=CLOSED))
    run(*OUTSIDE, "nft", "add table ip witness; add chain ip witness out { type filter hook "
        "output priority 0; }; add rule ip witness out udp dport 1434 counter")  # fmt: skip
    with Flood() as flood:
        for name in ("P", "Q") * 3:
            daemon.ctl("policy", "assign", name)
        assert flood.received() == 0
    matched = 0
    for name in ("P", "Q"):
        daemon.ctl("policy", "assign", name)
        matched += counted(daemon)
    assert matched == sent_by_peer() > 1000


def sent_by_peer() -> int:
    """How many packets of the flood the peer has sent, by a table of its own."""
    listed = json.loads(run(*OUTSIDE, "nft", "-j", "list", "table", "ip", "witness"))["nftables"]
    (rule,) = (item["rule"] for item in listed if "rule" in item)
    return sum(int(part["counter"]["packets"]) for part in rule["expr"] if "counter" in part)


def test_a_ban_is_named_by_its_address_and_kept_when_the_daemon_is_killed(daemon: Daemon) -> None:
    """It keeps at least what was read last; nftables, which keeps its sets, all of it."""
    daemon.ctl("block", site.PEER4)
    send(OUTSIDE, HERE4, 9, 4)
    assert counted(daemon, site.PEER4) == 4
    assert "dynamic-1 " not in daemon.ctl("stats")
    assert site.PEER4 in daemon.ctl("stats")
    daemon.end(signal.SIGUSR1)
    daemon.start()
    assert counted(daemon, site.PEER4) == 4
    send(OUTSIDE, HERE4, 9, 2)
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert counted(daemon, site.PEER4) in ((6,) if daemon.backend == "nftables" else (4, 6))


def test_a_scrape_has_what_stats_have(daemon: Daemon) -> None:
    """The exporter serves where it is told, and says that the daemon is down when it is."""
    send(OUTSIDE, HERE4, CLOSED, 5)
    words = [sys.executable, "-m", "ipsecd_metrics", "--listen", "127.0.0.1:9633"]
    with subprocess.Popen(
        words, env=daemon.environment, stdout=subprocess.PIPE, text=True
    ) as exporter:
        assert exporter.stdout
        assert exporter.stdout.readline() == "ipsecd-metrics: metrics are at 127.0.0.1:9633\n"
        try:
            text = scraped()
            assert "ipsecd_up 1.0" in text
            assert "ipsecd_in_force 1.0" in text
            found = {line.rpartition("}")[2] for line in text.splitlines() if 'rule="Worm"' in line}
            assert found == {" 5.0", " 240.0"}
            daemon.end(signal.SIGKILL)
            assert eventually(lambda: "ipsecd_up 0.0" in scraped())
            daemon.start()
            assert eventually(lambda: "ipsecd_up 1.0" in scraped())
        finally:
            exporter.kill()


def scraped() -> str:
    with urllib.request.urlopen("http://127.0.0.1:9633/metrics", timeout=60) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("xdp", [False, True])
def test_many_bans_are_read_in_short_pieces(tmp_path: Path, *, xdp: bool) -> None:
    """Who bans meanwhile waits for one piece of work in the kernel's line, and not for all."""
    site.needs_isolation()
    nftables = NftablesBackend()
    programs = partial(XdpBackend, site.BPFFS, alone=False) if xdp else None
    backend = NftablesWithPrograms("xdp", nftables, programs, required=xdp)
    directories = Directories(*(tmp_path / name for name in ("etc", "lib", "run", "bpf")))
    engine = Engine(Config(), directories, lambda: backend)
    try:
        engine.start()
        filters = (f"198.51.{n // 250}.{n % 250 + 1}=0" for n in range(MANY))
        rules = [DynamicRule(f"b{n}", (parse_filter(f),), BLOCK) for n, f in enumerate(filters)]
        engine.change_dynamic(rules, [])
        pieces: list[float] = []
        line = RLock()

        def measured(work: Callable[[], T]) -> T:
            with line:
                begun = time.thread_time()
                try:
                    return work()
                finally:
                    pieces.append(time.thread_time() - begun)

        engine.use_line(measured)
        counted = engine.counting.read()
        assert sum(origin.volatile for origin in counted) == MANY
        assert len(pieces) >= (MANY // 100 if xdp else 2)
        assert max(pieces) < 0.02 * site.PATIENCE
        pieces.clear()
        engine.counting.keep()
        assert max(pieces) < 0.02 * site.PATIENCE
        assert (tmp_path / "lib/counters").read_text().count('["dynamic"') == MANY
    finally:
        engine.stop()
        engine.close()
