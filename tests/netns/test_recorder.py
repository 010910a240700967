"""The flight recorder, by the real commands and a real daemon: what was decided a while ago."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, delivered

pytestmark = pytest.mark.netns
WORM = f"udp 203.0.113.7:4000 > {HERE4}:1434"
SENT = 5
ADDED = "192.0.2.77"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, "nftables") as running:
        yield running


def now() -> str:
    return datetime.now(UTC).isoformat()


def told(daemon: Daemon, at: str, packet: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(daemon.ctl("explain", "--at", at, packet, "--json"))
    return answer


def test_it_answers_from_what_was_in_force_then(daemon: Daemon) -> None:
    """Also after the daemon was killed; and it says who made it so, and when."""
    before = now()
    daemon.ctl("block", "udp/1434", "--name", "worm", "--message", "slammer")
    blocked = now()
    daemon.ctl("unblock", "worm")
    after = now()
    daemon.ctl("status")
    assert told(daemon, before, WORM)["explanation"]["decision"] == "permit"
    at_that_time = told(daemon, blocked, WORM)
    assert at_that_time["explanation"]["by"]["rule"] == "worm"
    assert at_that_time["backend"] == "nftables"
    assert (at_that_time["change"]["method"], at_that_time["change"]["message"]) == (
        "AddDynamicRules",
        "slammer",
    )
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert told(daemon, blocked, WORM) == at_that_time
    assert told(daemon, after, WORM)["explanation"]["decision"] == "permit"
    words = daemon.ctl("explain", "--at", blocked, WORM)
    assert "BLOCK" in words.upper()
    assert "rule 'worm' had been so since 20" in words
    assert "block *=0:1434:UDP as 'worm'" in words


def test_it_follows_the_addresses_of_the_host(daemon: Daemon) -> None:
    """A packet to an address was to this host while it had the address, and not before."""
    daemon.ctl("block", "tcp/23")
    packet = f"tcp 203.0.113.7:4000 > {ADDED}:23"
    before = now()
    subprocess.run(["ip", "address", "add", f"{ADDED}/32", "dev", "lo"], check=True)
    try:
        wait_until(lambda: told(daemon, now(), packet)["explanation"]["decision"] == "block")
        assert told(daemon, before, packet)["explanation"]["decision"] == "permit"
    finally:
        subprocess.run(["ip", "address", "del", f"{ADDED}/32", "dev", "lo"], check=True)


def dropped(daemon: Daemon) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        daemon.ctl("drops", "--since", "10m", "--samples", "--json")
    )
    return answer


@pytest.mark.parametrize("backend", site.BACKENDS)
def test_drops_are_told_at_once_with_their_sources(tmp_path: Path, backend: str) -> None:
    """Whoever asks need not wait until a minute is over; counts are those of the counters."""
    with site.daemon(tmp_path, backend) as daemon:
        daemon.ctl("block", "udp/1434", "--name", "worm")
        assert delivered(HERE4, 1434) == 0
        wait_until(lambda: dropped(daemon)["samples"])
        answer = dropped(daemon)
        assert sum(period["packets"] for period in answer["periods"]) == SENT
        assert {source["source"] for source in answer["sources"]} == {PEER4}
        assert answer["samples"][0]["rule"] == "worm"
        assert answer["samples"][0]["packet"].startswith(f"udp {PEER4}:")
        words = daemon.ctl("drops", "--since", "10m")
        assert "worm" in words
        assert PEER4 in words


def wait_until(holds: Any) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end


def test_a_moment_before_the_record_is_refused_in_words(daemon: Daemon) -> None:
    assert "before what is kept" in daemon.ctl("explain", "--at", "100w", WORM, code=1)
    assert "not a moment that exists" in daemon.ctl("explain", "--at", "2026-13-01", WORM, code=2)
