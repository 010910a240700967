"""Tests of ``ipsecctl learn``: what it reads, what it proposes, and what it says it cannot know."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import AUDITED, REPLIES, FakeDaemon
from tests.seen import SEEN

FILE = REPLIES["GetPolicyFile"]
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nFORGED\u202e"
LEARNED = [
    "rule 'Learned from Block web' permits what 'Block web' noted:",
    "  203.0.113.7=0:80:TCP  3 packets of 1 flow",
]


def flows(
    *changes: dict[str, Any], following: int | None = None, unseen: int = 0
) -> dict[str, Any]:
    told = [{**AUDITED, **change} for change in changes]
    reply = {"flows": told, "next": following, "packets": 3 * len(told), "unseen": unseen}
    return {**reply, "since": AUDITED["first"]}


def test_what_is_proposed(daemon: FakeDaemon, run: Run) -> None:
    """The permits with what asked for them, and the lines of the file that would be added."""
    ran = run("ipsecctl", "learn", "Web")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        *LEARNED,
        "@@ -6,2 +6,6 @@",
        "     filters:",
        '       - "*=0"',
        "+  - rule: Learned from Block web",
        "+    action: permit",
        "+    filters:",
        '+      - "203.0.113.7=0:80:TCP"',
    ]
    assert daemon.calls == [
        ("GetPolicyFile", {"name": "Web"}),
        ("ListInterfaces", {}),
        ("AuditedFlows", {"policy": "Web", "start": 0}),
    ]


def test_what_is_stored(daemon: FakeDaemon, run: Run) -> None:
    """With --write the rule is stored, as a change like all others."""
    ran = run("ipsecctl", "learn", "Web", "--write", "--message", "seen for a week")
    assert ran.code == 0
    assert ran.out.splitlines()[:2] == LEARNED
    rule = {
        "name": "Learned from Block web",
        "action": "permit",
        "filters": ["203.0.113.7=0:80:TCP"],
        "interface": None,
        "when": None,
    }
    put = {"policy": "Web", "rules": [rule], "create": False, "assign": False}
    assert daemon.calls[-1] == ("PutRules", put)
    assert daemon.changes[-1] is not None
    assert daemon.changes[-1]["message"] == "seen for a week"


def test_for_programs(daemon: FakeDaemon, run: Run) -> None:
    """The same as one document, in which the comments of the policy are kept."""
    daemon.replies["AuditedFlows"] = flows({}, {"source": "203.0.113.8"}, unseen=7)
    answer = json.loads(run("ipsecctl", "learn", "Web", "--json").out)
    assert answer["rules"] == [
        {
            "name": "Learned from Block web",
            "audit": "Block web",
            "filters": [
                {"filter": "203.0.113.7=0:80:TCP", "flows": 1, "packets": 3},
                {"filter": "203.0.113.8=0:80:TCP", "flows": 1, "packets": 3},
            ],
        }
    ]
    assert answer["document"].startswith(FILE["text"])
    assert "# for now" in answer["document"]
    assert (answer["unseen"], answer["proven"], answer["refused"]) == (7, True, 0)
    assert not any(method == "PutRules" for method, _ in daemon.calls)


def test_pages(daemon: FakeDaemon, run: Run) -> None:
    """All flows are read, however many replies they are in."""
    pages = [flows({}, following=1000), flows({"source": "203.0.113.9"})]
    make_up = daemon.make_up

    def page(method: str, parameters: dict[str, Any]) -> Any:
        return pages.pop(0) if method == "AuditedFlows" else make_up(method, parameters)

    daemon.replies["AuditedFlows"] = {}
    daemon.make_up = page  # type: ignore[method-assign]
    original = REPLIES.pop("AuditedFlows")
    try:
        ran = run("ipsecctl", "learn", "Web")
    finally:
        REPLIES["AuditedFlows"] = original
    assert "203.0.113.7=0:80:TCP" in ran.out
    assert "203.0.113.9=0:80:TCP" in ran.out
    asked = [parameters["start"] for method, parameters in daemon.calls if "Flows" in method]
    assert asked == [0, 1000]


def test_what_a_policy_of_the_domain_noted_is_left_out(daemon: FakeDaemon, run: Run) -> None:
    """It may have the same name and rules; an older daemon does not say which of both it was."""
    daemon.replies["AuditedFlows"] = flows(
        {},
        {"store": "domain", "packets": 100},
        {"store": None, "source": "203.0.113.8"},
        {"store": "domain", "source": "203.0.113.9"},
    )
    (rule,) = json.loads(run("ipsecctl", "learn", "Web", "--json").out)["rules"]
    assert [(found["filter"], found["packets"]) for found in rule["filters"]] == [
        ("203.0.113.7=0:80:TCP", 3),
        ("203.0.113.8=0:80:TCP", 3),
    ]


def test_nothing_is_learned_from_nothing(daemon: FakeDaemon, run: Run) -> None:
    """No packets are no reason for any permit, and it is said what to do."""
    daemon.replies["AuditedFlows"] = flows()
    ran = run("ipsecctl", "learn", "Web")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing to learn from" in ran.err
    assert "none of its rules is" in ran.err
    daemon.replies["GetPolicyFile"] = {**FILE, "text": FILE["text"].replace(": block", ": audit")}
    assert "wait until its audits have seen traffic" in run("ipsecctl", "learn", "Web").err


def test_what_is_older_is_left_out(daemon: FakeDaemon, run: Run) -> None:
    """--since is a moment or a length of time, and looks at the last packet of a flow."""
    for since in ("2026-11-30T15:41:00Z", "100000d"):
        assert run("ipsecctl", "learn", "Web", "--since", since).code == 0
    ran = run("ipsecctl", "learn", "Web", "--since", "2026-11-30T15:42:00Z")
    assert ran.code == 1
    assert "nothing to learn from" in ran.err
    assert run("ipsecctl", "learn", "Web", "--since", "soon").code == 2
    assert daemon.calls


def test_peers_share_a_prefix_if_that_is_asked_for(daemon: FakeDaemon, run: Run) -> None:
    """--widen is in bits, and nothing else."""
    daemon.replies["AuditedFlows"] = flows({}, {"source": "203.0.113.1"})
    assert "203.0.113.0/29=0:80:TCP" in run("ipsecctl", "learn", "Web", "--widen", "24").out
    for bits in ("0", "33", "x", "²", "/24", "9" * 5000):
        ran = run("ipsecctl", "learn", "Web", "--widen", bits)
        assert (ran.code, ran.out) == (2, "")


def test_what_cannot_be_known_is_said(daemon: FakeDaemon, run: Run) -> None:
    """Packets that were not told of, flows that nothing can permit, and those that are settled."""
    exact = FILE["text"].replace("*=0", "203.0.113.7=0:80:TCP")
    daemon.replies["GetPolicyFile"] = {**FILE, "text": exact}
    daemon.replies["AuditedFlows"] = flows({}, {"rule": "Gone"}, unseen=1234)
    ran = run("ipsecctl", "learn", "Web")
    assert ran.code == 0
    assert ran.out == "the policy needs no more permits for what was noted\n"
    first, second, third = ran.err.splitlines()
    assert first.startswith("warning: nothing is known of 1,234 packets")
    assert second.startswith("warning: 1 flow cannot be permitted")
    assert "'Block web'" in second
    assert third.startswith("1 flow of those that were noted are not decided")


def lines(*seen: dict[str, Any]) -> str:
    return "".join(json.dumps({**SEEN, **each}) + "\n" for each in seen)


AUDITS: list[dict[str, Any]] = [
    {"action": "audit", "packet": f"tcp 203.0.113.{n}:4{n:04} > 192.168.1.1:80 in eth0"}
    for n in (7, 7, 9)
]


def test_recorded_lines(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """What ``monitor --json`` wrote is read: audits of this policy, and blocks if asked for."""
    path = tmp_path / "seen"
    others: list[dict[str, Any]] = [
        {"action": "audit", "policy": "Other", "packet": "tcp 198.51.100.1:1 > 192.168.1.1:80"},
        {"action": "audit", "policy": None, "rule": None},
        {"action": "block", "packet": "udp 198.51.100.2:40000 > 192.168.1.1:53 in eth0"},
    ]
    path.write_text(lines(*AUDITS, *others) + '\n{"blocked": 9, "lost": 4}\n')
    ran = run("ipsecctl", "learn", "Web", "--from", str(path))
    assert ran.code == 0
    assert ran.out.splitlines()[1:3] == [
        "  203.0.113.7=0:80:TCP  2 packets of 1 flow",
        "  203.0.113.9=0:80:TCP  1 packet of 1 flow",
    ]
    assert "198.51.100" not in ran.out
    assert "nothing is known of 4 packets" in ran.err
    assert not any(method == "AuditedFlows" for method, _ in daemon.calls)
    ran = run("ipsecctl", "learn", "Web", "--from", str(path), "--blocked")
    assert "198.51.100.2=0:53:UDP" in ran.out


def test_losses_are_told_of_a_whole_run(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """Each line about losses includes those before it, until a run begins anew in the file."""
    path = tmp_path / "seen"
    losses = "".join(f'{{"lost": {lost}}}\n' for lost in (10, 25, 25, 40, 3, 5))
    path.write_text(lines(*AUDITS) + losses)
    ran = run("ipsecctl", "learn", "Web", "--from", str(path))
    assert "nothing is known of 45 packets" in ran.err
    assert daemon.calls


def test_recorded_lines_of_a_pipe(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input is a file too."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(*AUDITS).encode())))
    assert "203.0.113.9=0:80:TCP" in run("ipsecctl", "learn", "Web", "--from", "-").out
    assert daemon.calls


@pytest.mark.parametrize(
    "line",
    ["no json", "[1]", '{"packet": 7}', "[" * 100_000, "\xff",
     lines({"action": "audit", "packet": "no packet"}),
     lines({"action": "audit", "direction": "up"}),
     lines({"action": "audit", "at": HOSTILE}),
     lines({"action": "audit", "packet": HOSTILE}),
     lines({"action": "audit", "packet": None}),
     lines({"action": "audit", "at": "2026-11-30T15:40:12"}),
     *(f'{{"lost": {no}}}' for no in ('"4"', "[4]", "null", "true", "-4", "4.5", "1e999"))],
)  # fmt: skip
def test_lines_that_are_no_packets(daemon: FakeDaemon, run: Run, tmp_path: Path, line: str) -> None:
    """The line is named, and nothing is learned from the others."""
    path = tmp_path / "seen"
    path.write_bytes(lines(*AUDITS).encode() + line.encode("latin-1"))
    ran = run("ipsecctl", "learn", "Web", "--from", str(path))
    assert (ran.code, ran.out) == (1, "")
    assert "seen:4" in ran.err
    assert ran.err.replace("\n", "").isprintable()
    assert daemon.calls


def test_usage(daemon: FakeDaemon, run: Run) -> None:
    """The daemon records what audit rules noted, so blocks come from a file."""
    ran = run("ipsecctl", "learn", "Web", "--from", "audit", "--blocked")
    assert ran.code == 2
    assert "give a file" in ran.err
    assert run("ipsecctl", "learn", "Web", "--blocked").code == 2
    assert daemon.calls


def test_hostile_names(daemon: FakeDaemon, run: Run) -> None:
    """What rules are called in what was noted is printed on its line, escaped."""
    daemon.replies["AuditedFlows"] = flows({"rule": HOSTILE}, {}, {"interface": HOSTILE})
    ran = run("ipsecctl", "learn", "Web")
    assert ran.code == 0
    assert (ran.out + ran.err).replace("\n", "").isprintable()
    assert not any(line.startswith("FORGED") for line in (ran.out + ran.err).splitlines())
