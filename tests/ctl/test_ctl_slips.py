"""What people type after ``ipsecctl`` who come from another firewall: each is answered in ours."""

from __future__ import annotations

import json

import pytest

from ipsecctl.ends import duration_s
from ipsecctl.short_packets import ANYBODY, packets_meant
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon

LINES = {
    "blok 192.0.2.1": "did you mean 'ipsecctl block'?",
    "deny 192.0.2.1": "did you mean 'ipsecctl block'?",
    "drop 192.0.2.1": "did you mean 'ipsecctl block'?",
    "ban 192.0.2.1": "did you mean 'ipsecctl block'?",
    "add 192.0.2.1": "did you mean 'ipsecctl block'?",
    "allow 192.0.2.1": "did you mean 'ipsecctl permit'?",
    "accept 192.0.2.1": "did you mean 'ipsecctl permit'?",
    "unban 192.0.2.1": "did you mean 'ipsecctl unblock'?",
    "delete 192.0.2.1": "did you mean 'ipsecctl unblock'?",
    "list 192.0.2.1": "one of: create, update, replace, add, remove, show, count, delete, check",
    "show rules": "did you mean 'ipsecctl show filters'?",
    "show bans": "did you mean 'ipsecctl show dynamic'?",
    "block 192.0.2.1 -for 1h": "did you mean '--for'?",
    "block 192.0.2.1 --time 1h": "did you mean '--for'?",
    "block 192.0.2.1 --timeout 1h": "did you mean '--for'?",
    "rule add p r 192.0.2.1=0 --action deny": "write --action block",
    "rule add p r 192.0.2.1=0 --action allow": "write --action permit",
    "rule add p r 192.0.2.1=0 --action sing": "write --action block|permit|audit",
    "block tcp 22": "write tcp/22",
    "block 192.0.2.1 from any": "write 192.0.2.1",
    "block in on eth0": "write '*=0' --interface eth0",
}
LENGTHS_S = {
    "1w": 604_800, "4h30m": 16_200, "90min": 5_400, "10minutes": 600, "1minute": 60, "2hrs": 7_200,
    "3Days": 259_200, "1week2days": 777_600, "30secs": 30,
}  # fmt: skip
PACKETS = {
    "192.0.2.1": ["253 192.0.2.1 > me"],
    "2001:db8::1": ["253 [2001:db8::1] > me"],
    "tcp/22": [f"tcp {ANYBODY} > me:22"],
    "53/udp": [f"udp {ANYBODY} > me:53"],
    "192.0.2.1:22": ["tcp 192.0.2.1 > me:22", "tcp me > 192.0.2.1:22"],
    "[2001:db8::1]:22": ["tcp [2001:db8::1] > me:22", "tcp me > [2001:db8::1]:22"],
    "tcp 192.0.2.1 > me:22": [],
    "22": [],
    "example.org": [],
}


@pytest.mark.parametrize(("line", "hint"), LINES.items())
def test_what_is_refused_names_what_was_meant(
    daemon: FakeDaemon, run: Run, line: str, hint: str
) -> None:
    ran = run("ipsecctl", *line.split())
    assert ran.code in (1, 2)
    assert hint in ran.err
    assert daemon.calls == []


@pytest.mark.parametrize(("text", "seconds"), LENGTHS_S.items())
def test_units_of_time_may_be_words(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(("text", "packets"), PACKETS.items())
def test_what_is_no_packet_yet_stands_for_some(text: str, packets: list[str]) -> None:
    meant, note = packets_meant(text)
    assert meant == packets
    assert bool(note) is bool(packets)


def test_explain_says_what_it_has_asked_for(daemon: FakeDaemon, run: Run) -> None:
    """Both directions of an address with a port, and in JSON both answers."""
    ran = run("ipsecctl", "explain", "192.0.2.1:22")
    assert [parameters["packet"] for _, parameters in daemon.calls] == PACKETS["192.0.2.1:22"]
    assert "note: no protocol was named, so this is TCP" in ran.out
    assert len(json.loads(run("ipsecctl", "explain", "192.0.2.1:22", "--json").out)) == 2
