"""Tests of how bans are typed: lists from files, names, lengths of time and moments."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.ends import duration_s, end_of
from ipsecctl.failures import UsageError
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon, added_reply

MOMENT = 1_764_590_400.0
"""2025-12-01T12:00Z."""


def sent(daemon: FakeDaemon) -> list[str]:
    """The filters of the only call, however they came."""
    [(_, parameters)] = daemon.calls
    if parameters["filters"] is None:
        return (daemon.document or b"").decode().splitlines()
    filters: list[str] = parameters["filters"]
    return filters


@pytest.mark.parametrize("content", [
    b"# bans\n203.0.113.7 ; why\n\nudp/9 # x\n2001:db8::/32",
    b"\xef\xbb\xbf203.0.113.7\r\nudp/9\r\n2001:db8::/32\r\n",
])  # fmt: skip
@pytest.mark.parametrize("source", ["file", "-"])
def test_lists_come_from_files(
    daemon: FakeDaemon,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    source: str,
) -> None:
    """As feeds have them, among what is typed, each filter once."""
    path = tmp_path / "bans.txt"
    path.write_bytes(content)
    stdin = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(sys, "stdin", stdin)
    argument = f"@{path}" if source == "file" else "-"
    ran = run("ipsecctl", "block", "10.0.0.1", argument, "tcp/23", "udp/9", "--for", "1w")
    assert ran.code == 0, ran.err
    expected = ["10.0.0.1=0", "203.0.113.7=0", "*=0:9:UDP", "[2001:db8::]/32=0", "*=0:23:TCP"]
    assert sent(daemon) == expected


def test_long_lists_are_handed_over_as_a_file(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """One call, however long: its frame has a limit."""
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000)]
    (tmp_path / "bans").write_text("\n".join(addresses))
    ran = run("ipsecctl", "permit", f"@{tmp_path}/bans", "--name", "all", "--json")
    assert ran.code == 0, ran.err
    assert sent(daemon) == [f"{address}=0" for address in addresses]
    assert json.loads(ran.out)["rules"][0]["name"] == "all"


@pytest.mark.parametrize(
    ("line", "content", "code", "words"),
    [
        ("block @FILE", "10.0.0.1\n10.0.0.256\n", 1, "FILE:2: "),
        ("block @FILE", "10.0.0.1\n@-other\n", 1, "FILE:2: "),
        ("block @FILE", "10.0.0.1\n*\n", 1, "FILE:2: "),
        ("block @FILE", "# nothing\n", 1, "has no filter in it"),
        ("block @FILE.gone", "", 1, "cannot read"),
        ("block @", "", 1, "names no file"),
        ("block @-drop=0", "", 1, "'@-drop'"),
        ("block @FILE", "10.0.0.1\n\xff\n", 1, "FILE:2: this is not text in UTF-8"),
    ],
)
def test_lists_that_are_refused(
    daemon: FakeDaemon, run: Run, tmp_path: Path, line: str, content: str, code: int, words: str
) -> None:
    """With the line; the daemon is not asked."""
    path = tmp_path / "FILE"
    path.write_bytes(content.encode("latin-1"))
    ran = run("ipsecctl", *line.replace("FILE", str(path)).split())
    assert (ran.code, ran.out, daemon.calls) == (code, "", [])
    assert words in ran.err.replace(f"{tmp_path}/", "")


def test_a_list_of_the_daemon_is_no_file(daemon: FakeDaemon, run: Run) -> None:
    """It stands in a filter; what is only a word behind the sign is a file."""
    assert run("ipsecctl", "block", "@drop=0", "0=@drop:25:TCP").code == 0
    assert sent(daemon) == ["@drop=0", "0=@drop:25:TCP"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1w", 604800), ("2d", 172800), ("45", 45),
     ("1w2d3h4m5s", 788645), ("90m", 5400)],
)  # fmt: skip
def test_lengths_of_time(text: str, seconds: int) -> None:
    """By units, the longest first, or in seconds."""
    assert duration_s(text) == seconds
    assert end_of(text, MOMENT) == (seconds, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("soon", "no length of time"),
        ("0", "no length of time"),
        ("0s", "no length of time"),
        ("-5m", "no length of time"),
        ("1.5h", "no length of time"),
        ("", "no length of time"),
        ("30m1h", "the longest first"),
        ("1h1h", "name each unit once"),
        ("5 m", "no length of time"),
        ("٣m", "no length of time"),
        ("2025-12-01T11:59Z", "in the past"),
        ("2025-12-01T12:00Z", "in the past"),
        ("2025-12-01T12:00", "in which time zone"),
        ("2026-12-01", "in which time zone"),
        ("2026-13-01T12:00Z", "not a moment that exists"),
        ("2026-02-30T12:00Z", "not a moment that exists"),
    ],
)
def test_ends_that_are_none(text: str, words: str) -> None:
    """Each says what is wrong, and what to write."""
    with pytest.raises(UsageError) as refused:
        end_of(text, MOMENT)
    assert words in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-12-01T12:01Z", 60),
        ("2025-12-01T12:00:30Z", 30),
        ("2025-12-01T14:00:30+02:00", 30),
        ("2025-12-01T12:00:00.5Z", 0.5),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    """With seconds or without, in any time zone."""
    assert end_of(text, MOMENT) == (seconds, MOMENT + seconds)


def test_a_quarantine_ends_at_a_moment_too(daemon: FakeDaemon, run: Run) -> None:
    """Wherever --for stands it means the same."""
    daemon.replies["Quarantine"] = {"changed": True, "rules": [], "warnings": []}
    assert run("ipsecctl", "quarantine", "--host", "--for", "2100-01-01T00:00Z").code == 0
    assert daemon.calls[0][1]["ttl_s"] > 1e6
    ran = run("ipsecctl", "quarantine", "--host", "--for", "2020-01-01T00:00Z")
    assert (ran.code, "in the past" in ran.err) == (2, True)


RULE: dict[str, Any] = {
    "name": "dynamic-1",
    "action": "block",
    "filters": ["203.0.113.7=0"],
    "interface": None,
    "when": None,
    "remaining_s": None,
    "by": "uid 0 (root)",
    "created": 1.0,
}
REFERENCE = {
    "store": "static",
    "policy": "Web",
    "rule": "Office",
    "filter": "203.0.113.7=0:22:TCP",
    "action": "permit",
}


def test_what_outranks_is_said(daemon: FakeDaemon, run: Run) -> None:
    """On standard output: the command has done what it was asked, and that is what came of it."""
    packet = "tcp 203.0.113.7:49152 > 192.0.2.1:22"
    entry = {"filter": "203.0.113.7=0", "by": REFERENCE, "packet": packet}
    daemon.replies["AddDynamicRules"] = added_reply([RULE], outranked=[entry])
    ran = run("ipsecctl", "block", "203.0.113.7")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == (
        f"warning: {packet} still passes: permit 203.0.113.7=0:22:TCP of rule 'Office' of policy "
        "'Web' outranks 203.0.113.7=0"
    )
    answer = json.loads(run("ipsecctl", "block", "203.0.113.7", "--json").out)
    assert answer["outranked"] == [entry]
    protecting = {**REFERENCE, "store": "configuration", "policy": "", "rule": "protect"}
    of_settings = {**entry, "by": protecting}
    daemon.replies["AddDynamicRules"] = added_reply([RULE], outranked=[of_settings])
    said = run("ipsecctl", "block", "203.0.113.7").out
    assert "of rule 'protect' of the configuration outranks 203.0.113.7=0" in said
    assert (answer["changed"], answer["name"]) == (True, "dynamic-1")


def test_how_much_was_new_is_said(daemon: FakeDaemon, run: Run) -> None:
    """And what was there before, for one rule and for many."""
    daemon.replies["AddDynamicRules"] = added_reply([RULE], changed=False, added=0)
    assert run("ipsecctl", "block", "203.0.113.7").out.endswith(" as 'dynamic-1', as before\n")
    rules = [{**RULE, "name": f"dynamic-{n}"} for n in range(1, 8)]
    daemon.replies["AddDynamicRules"] = added_reply(rules, added=3, renewed=2)
    out = run("ipsecctl", "block", "203.0.113.7").out
    assert "as 7 rules (3 new, 2 renewed, 2 as before): 'dynamic-1' … 'dynamic-7'\n" in out


def test_what_was_taken_and_what_still_blocks_is_said(daemon: FakeDaemon, run: Run) -> None:
    """Whole rules, filters of rules, and wider filters."""
    by = {**REFERENCE, "action": "block", "filter": "203.0.113.0/24=0"}
    still = [{"address": "203.0.113.7", "by": by}]
    answer = {"removed": ["a"], "reduced": ["bans"], "filters": 2, "still_blocked": still}
    daemon.replies["RemoveDynamicRules"] = answer
    first, second = run("ipsecctl", "unblock", "203.0.113.7").out.splitlines()
    assert first.startswith("removed 1 dynamic rule: 'a'; removed filters of 'bans', of which")
    assert second == (
        "203.0.113.7 is still blocked: 203.0.113.0/24=0 of rule 'Office' of policy 'Web'"
    )
    assert json.loads(run("ipsecctl", "unblock", "203.0.113.7", "--json").out) == {
        "changed": True,
        **answer,
    }
