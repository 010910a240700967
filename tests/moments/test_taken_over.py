"""Ten thousand dynamic rules under a flood: the daemon is killed, and the next one has them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecctl.client import Client
from tests.moments.flood import BLOCKED, Target
from tests.moments.stage import Stage, stage
from tests.netns.site import BACKENDS, HERE4, HERE6, dynamic_entries

pytestmark = pytest.mark.netns

RULES = 10_000
TTL_S = 900.0
TARGETS = (Target("wire1", HERE4), Target("wire1", HERE6))


@pytest.fixture(params=BACKENDS)
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A host where dynamic rules alone block the flood, among many others with an end."""
    with stage(tmp_path, request.param, seed=1434) as staged:
        client = connect(staged)
        add(client, "flood", f"*=0:{BLOCKED}:UDP", None)
        client.call("UnassignPolicy", {"name": None})
        for number in range(RULES):
            address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            add(client, f"ban {number}", f"{address}=0", TTL_S)
        yield staged


def connect(host: Stage) -> Client:
    return Client(host.daemon.environment["IPSECD_SOCKET"])


def add(client: Client, name: str, text: str, ttl_s: float | None) -> None:
    parameters = {"filters": [text], "action": "block", "name": name, "interface": None}
    client.call("AddDynamic", {**parameters, "ttl_s": ttl_s})


def replace(host: Stage, number: signal.Signals) -> int:
    """End the daemon with a signal, and start another; how much came through meanwhile."""

    def happen() -> None:
        host.daemon.end(number)
        host.daemon.start()

    result = host.under_flood(TARGETS, happen)
    assert result.passed > 0, str(result)
    return result.leaked


def test_not_one_packet_passes_and_all_ends_are_kept(host: Stage) -> None:
    """After a crash and a hand-over all are there; after a restart on purpose none is."""
    entries = len(dynamic_entries(host.daemon))
    assert entries > RULES
    for number in (signal.SIGKILL, signal.SIGUSR1):
        assert replace(host, number) == 0
        assert len(dynamic_entries(host.daemon)) == entries
        status = json.loads(host.daemon.ctl("status", "--json"))
        assert status["dynamic_taken_over"] == status["dynamic_rules"] == RULES + 1
        assert "taken over 10,001 rules" in host.daemon.ctl("status")
        remaining_s = [rule["remaining_s"] for rule in connect(host).call("ListDynamic")["rules"]]
        assert remaining_s.count(None) == 1
        assert all(TTL_S / 3 < s < TTL_S - 1 for s in remaining_s if s is not None)
    host.daemon.ctl("block", "203.0.113.7")
    assert replace(host, signal.SIGUSR2) > 0
    assert dynamic_entries(host.daemon) == []
    assert "dynamic    none" in host.daemon.ctl("status")
