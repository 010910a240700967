"""``drops`` and ``explain --at``: times as they are typed, and what is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ipsecctl.ends import past_of
from ipsecctl.failures import UsageError
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import REPLIES, FakeDaemon

NOW = 1_795_867_200.0
"""2026-11-28T12:00:00Z."""


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC-1")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("60", 60),
        ("2026-11-28T11:59:00Z", 60),
        ("2026-11-28T12:59:00+01:00", 60),
        ("2026-11-28 12:59", 60),
        ("2026-11-28 12:59:30", 30),
        ("2026-11-28", 46_800),
    ],
)
def test_a_time_is_so_long_ago_or_a_moment(text: str, ago: float) -> None:
    """A moment without a zone is in that of whoever types it."""
    assert past_of(text, NOW) == NOW - ago


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "0001-01-01", "2026-11-28T1", "1h1h"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        past_of(text, NOW)


def test_what_is_asked_for_is_sent_as_moments(daemon: FakeDaemon, run: Run) -> None:
    begun = time.time()
    words = ["--since", "1h", "--until", "2026-11-24 14:00", "--rule", "w", "--address", "::1"]
    assert run("ipsecctl", "drops", *words).code == 2
    words[1] = "2026-11-24 13:00"
    assert run("ipsecctl", "drops", *words).code == 0
    assert daemon.calls[-1] == (
        "Drops",
        {
            "since": "2026-11-24T12:00:00.000000Z",
            "until": "2026-11-24T13:00:00.000000Z",
            "rule": "w",
            "address": "::1",
        },
    )
    run("ipsecctl", "drops")
    since = datetime.fromisoformat(daemon.calls[-1][1]["since"]).timestamp()
    assert begun - 3601 < since < time.time() - 3599
    run("ipsecctl", "explain", "--at", "2026-11-24 13:00", "udp 192.0.2.1 > me:1")
    assert daemon.calls[-1] == (
        "ExplainAt",
        {"at": "2026-11-24T12:00:00.000000Z", "packet": "udp 192.0.2.1 > me:1"},
    )


def test_it_is_told_by_rule_and_source_and_time(daemon: FakeDaemon, run: Run) -> None:
    """With what was not seen one by one."""
    ran = run("ipsecctl", "drops", "--samples")
    unseen = "of 4,000 packets 3,960 were not seen one by one"
    packet = "udp 203.0.113.7:4000 > 192.0.2.1:1434 in eth0"
    assert ran.out.splitlines() == [
        "dropped from 2026-11-24 13:00:00 to 2026-11-24 14:00:00:",
        "4,000 packets, 195.3 KiB: block (dynamic: 'worm')",
        "            40 seen from 203.0.113.7, last by 2026-11-24 13:02:00",
        "by minute:",
        "  2026-11-24 13:00:00         1,000",
        "  2026-11-24 13:01:00         3,000",
        f"note: {unseen}: sources and samples are those of the others",
        f"2026-11-24 13:00:01  {packet}  block (dynamic: 'worm')",
    ]
    assert daemon.calls


def test_where_counters_could_not_be_read_it_says_at_least(daemon: FakeDaemon, run: Run) -> None:
    reply = dict(REPLIES["Drops"])
    reply["periods"] = [{**reply["periods"][0], "packets": None, "bytes": None}]
    daemon.replies["Drops"] = reply
    assert "at least 20 packets, 2.0 KiB: block (dynamic: 'worm')" in run("ipsecctl", "drops").out


def test_json_has_samples_only_if_asked_for(daemon: FakeDaemon, run: Run) -> None:
    assert json.loads(run("ipsecctl", "drops", "--json").out) == {
        **REPLIES["Drops"],
        "samples": [],
    }
    assert json.loads(run("ipsecctl", "drops", "--json", "--samples").out) == REPLIES["Drops"]
    assert daemon.calls


def test_a_time_that_is_none_is_refused_by_what_was_typed(daemon: FakeDaemon, run: Run) -> None:
    """The end is that of now if none was typed, and nobody typed that."""
    assert "'2999-01-01' is still to come" in run("ipsecctl", "drops", "--since", "2999-01-01").err
    ran = run("ipsecctl", "drops", "--since", "1h", "--until", "2h")
    assert "'2h' is not after '1h'" in ran.err
    assert "no length of time and no moment" in run("ipsecctl", "drops", "--since", "x").err
    assert not daemon.calls


def test_audits_are_not_said_to_drop(daemon: FakeDaemon, run: Run) -> None:
    reply = dict(REPLIES["Drops"])
    reply["periods"] = [{**period, "action": "audit"} for period in reply["periods"]]
    daemon.replies["Drops"] = reply
    assert run("ipsecctl", "drops").out.startswith("dropped or audited from 2026")


def test_nothing_dropped_is_said(daemon: FakeDaemon, run: Run) -> None:
    daemon.replies["Drops"] = {**REPLIES["Drops"], "periods": [], "sources": [], "lost": 0}
    assert "nothing is recorded as dropped from 20" in run("ipsecctl", "drops").out
    ran = run("ipsecctl", "drops", "--rule", "w")
    assert "nothing of what was asked for is recorded as dropped from 20" in ran.out


def test_a_moment_is_explained_with_the_change_that_made_it_so(
    daemon: FakeDaemon, run: Run
) -> None:
    ran = run("ipsecctl", "explain", "--at", "1h", "udp 192.0.2.1 > me:1")
    lines = ran.out.splitlines()
    assert lines[0] == "at 2026-11-24 14:03:00, enforced by nftables:"
    who = "by uid 0 (root) pid 12 ipsecctl (ApplyPolicy)"
    assert lines[-4:] == [
        f"policy 'Web' (static) had been so since 2026-11-24 13:00:00, {who}",
        f"the last change before was at 2026-11-24 13:00:00, {who} · ticket 7:",
        "  policy 'Web' (static) is in force",
        "note: the clock was set back",
    ]
    assert datetime.fromisoformat(daemon.calls[-1][1]["at"]).tzinfo is UTC
