"""Tests of the verbs that ask the daemon: the calls they make, their words and exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.client import Client
from ipsecctl.verbs import VERBS
from ipsecd.errors import InvalidInput, NotFound, Refused
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import (
    COUNT,
    DOCUMENT,
    EXAMINATION,
    EXPLANATION,
    FILTERS,
    INTERFACES,
    NOT_ASKED,
    OUTCOME,
    STATUS,
    FakeDaemon,
    added_reply,
)


def added(
    *filters: str,
    action: str = "block",
    name: str | None = None,
    ttl_s: float | None = None,
    interface: str | None = None,
    when: str | None = None,
    existing: str | None = None,
    until: float | None = None,
) -> tuple[str, dict[str, Any]]:
    parameters = {"filters": list(filters), "action": action, "name": name, "existing": existing}
    end = {"ttl_s": ttl_s, "until": until}
    conditions = {"interface": interface, "when": when}
    return ("AddDynamicRules", {**parameters, **end, **conditions, "source": None})


def put(
    action: str, interface: str | None, *, create: bool, assign: bool, when: str | None = None
) -> tuple[str, Any]:
    asked = {"interface": interface, "when": when}
    rule = {"name": "R", "action": action, "filters": ["*=0:80:TCP"], **asked}
    return ("PutRules", {"policy": "P", "rules": [rule], "create": create, "assign": assign})


CALLS: list[tuple[str, list[tuple[str, dict[str, Any]]]]] = [
    ("status", [("Status", {}), ("Stats", {})]),
    ("show", [("ListFilters", {})]),
    ("show filters", [("ListFilters", {})]),
    ("show policies", [("ListPolicies", {})]),
    ("show policy Web", [("GetPolicy", {"name": "Web"})]),
    ("show dynamic", [("ListDynamic", {})]),
    ("show interfaces", [("ListInterfaces", {})]),
    ("show names", [("ListNames", {})]),
    ("show exemptions", [("ListExemptions", {})]),
    ("stats", [("Stats", {})]),
    ("doctor", [("Examine", {})]),
    ("block udp/1434", [added("*=0:1434:UDP")]),
    ("block *=0: 1434: UDP", [added("*=0:1434:UDP")]),
    ("block 203.0.113.7 2001:db8::/32", [added("203.0.113.7=0", "[2001:db8::]/32=0")]),
    ("block tcp/80 --for 10m --name web --lan",
     [added("*=0:80:TCP", name="web", ttl_s=600.0, interface="lan")]),
    ("permit --dialup --for=90 0+*",
     [added("0+*", action="permit", ttl_s=90.0, interface="dialup")]),
    ("block 203.0.113.7 --name bans --add --for 1h30m",
     [added("203.0.113.7=0", name="bans", ttl_s=5400.0, existing="add")]),
    ("block 203.0.113.7 --replace --name=bans --for 2100-12-01T12:00Z",
     [added("203.0.113.7=0", name="bans", existing="replace", until=4131345600.0)]),
    ("unblock web", [("RemoveDynamicRules", {"selectors": ["web"]})]),
    ("unblock web 203.0.113.7", [("RemoveDynamicRules", {"selectors": ["web", "203.0.113.7"]})]),
    ("flush", [("FlushDynamic", {})]),
    ("quarantine --host", [("Quarantine", {"who": "0", "permits": [], "ttl_s": None})]),
    ("quarantine container:web --permit udp/53 --permit 10.0.0.5+0:22:TCP --for 1h",
     [("Quarantine", {"who": "container:web", "permits": ["*=0:53:UDP", "10.0.0.5+0:22:TCP"],
                      "ttl_s": 3600.0})]),
    ("release container:web", [("Release", {"who": "container:web"})]),
    ("release --host", [("Release", {"who": "0"})]),
    ("policy list", [("ListPolicies", {})]),
    ("policy show Web", [("GetPolicy", {"name": "Web"})]),
    ("policy export Web", [("GetPolicy", {"name": "Web"})]),
    ("policy create Web", [("CreatePolicy", {"name": "Web", "description": None})]),
    ("policy create Web --description=x", [("CreatePolicy", {"name": "Web", "description": "x"})]),
    ("policy delete Web",
     [("DeletePolicy", {"name": "Web", "unassign": False, "missing_ok": False})]),
    ("policy delete Web --unassign",
     [("DeletePolicy", {"name": "Web", "unassign": True, "missing_ok": False})]),
    ("policy assign Web", [("AssignPolicy", {"name": "Web", **NOT_ASKED})]),
    ("policy unassign Web", [("UnassignPolicy", {"name": "Web"})]),
    ("policy unassign", [("UnassignPolicy", {"name": None})]),
    ("rule add P R tcp/80 --action block", [put("block", None, create=False, assign=False)]),
    ("rule add P R tcp/80 --action PERMIT --lan --create --assign",
     [put("permit", "lan", create=True, assign=True)]),
    ("rule remove P A B",
     [("RemoveRules", {"policy": "P", "rules": ["A", "B"], "delete_empty": False})]),
    ("rule remove P A --delete-empty",
     [("RemoveRules", {"policy": "P", "rules": ["A"], "delete_empty": True})]),
    ("show lists", [("ListLists", {})]),
    ("list show", [("ListLists", {})]),
    ("list show bans", [("GetList", {"name": "bans", "address": None})]),
    ("list show bans 192.0.2.7", [("GetList", {"name": "bans", "address": "192.0.2.7"})]),
    ("list create bans",
     [("CreateList", {"name": "bans", "document": "", "source": None, "format": None,
                      "accept": False})]),
    ("list create drop --from https://feeds.example/x --every 1h",
     [("CreateFeed", {"name": "drop", "url": "https://feeds.example/x", "every_s": 3600.0,
                      "format": None, "plain_http": False, "accept": False})]),
    ("list create drop --from http://feeds.example/x --plain-http --format ipset --accept",
     [("CreateFeed", {"name": "drop", "url": "http://feeds.example/x", "every_s": 86400.0,
                      "format": "ipset", "plain_http": True, "accept": True})]),
    ("list create drop --from https://feeds.example/x --count",
     [("CreateFeed", {"name": "drop", "url": "https://feeds.example/x", "every_s": 86400.0,
                      "format": None, "plain_http": False, "accept": False, "counted": True})]),
    ("list count bans off", [("CountList", {"name": "bans", "counted": False})]),
    ("list update drop", [("UpdateList", {"name": "drop", "accept": False})]),
    ("list add bans 192.0.2.7 2001:db8::/32 --for 1w",
     [("AddToList", {"name": "bans", "addresses": ["192.0.2.7", "2001:db8::/32"],
                     "ttl_s": 604800.0, "accept": False})]),
    ("list add bans 192.0.2.0/24 --accept",
     [("AddToList", {"name": "bans", "addresses": ["192.0.2.0/24"], "ttl_s": None,
                     "accept": True})]),
    ("list remove bans 192.0.2.7",
     [("RemoveFromList", {"name": "bans", "addresses": ["192.0.2.7"]})]),
    ("list delete bans", [("DeleteList", {"name": "bans"})]),
    ("explain tcp 203.0.113.7:4000 > me:80",
     [("Explain", {"packet": "tcp 203.0.113.7:4000 > me:80"})]),
    ("reload", [("Reload", {"resolve": False})]),
    ("reload --resolve", [("Reload", {"resolve": True})]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "calls"), CALLS, ids=[line for line, _ in CALLS])
def test_verb_makes_its_calls(
    daemon: FakeDaemon, run: Run, line: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    """Every verb makes exactly its calls, prints something and succeeds."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.err) == (0, "")
    assert daemon.calls == calls
    assert ran.out


@pytest.mark.parametrize("line", [line for line, _ in CALLS])
def test_json_of_every_verb(daemon: FakeDaemon, run: Run, line: str) -> None:
    """With --json every verb prints one JSON value and nothing else."""
    ran = run("ipsecctl", *line.split(), "--json")
    assert ran.code == 0
    assert json.loads(ran.out) is not None
    assert daemon.calls


def test_status_tells_what_is_in_force(daemon: FakeDaemon, run: Run) -> None:
    """Status says in some lines what is enforced, with what, what passes, and what always does."""
    assert run("ipsecctl", "status").out.splitlines() == [
        "ipsecd 0.1.0 · enforcing with nftables",
        "  policy     'Block UDP 1434 Filter', assigned · 2 rules, 2 filters",
        "  dynamic    none",
        "  dropped    1,234 packets since 2026-11-30 15:40 UTC; ipsecctl stats has each rule",
        "  the rest   passes: what no rule blocks is let through",
        "  kernel     in step: it holds these rules",
        "  essentials neighbour-discovery, dhcp-client always pass",
    ]
    assert json.loads(run("ipsecctl", "status", "--json").out) == STATUS
    assert daemon.calls


def test_status_says_where_programs_are(daemon: FakeDaemon, run: Run) -> None:
    """Of nftables there is nothing to say that people would ask for."""
    daemon.status(backend="xdp", features=["tcx", "wire0: native", "br0: generic"])
    assert "  programs   tcx, wire0: native, br0: generic\n" in run("ipsecctl", "status").out


def test_status_says_what_was_dropped_and_since_when(daemon: FakeDaemon, run: Run) -> None:
    """Of all rules that block, since the first of them began to count; of very many it is not."""
    later = {**COUNT, "packets": 1230, "since": "2026-11-30T14:05:09Z"}
    first = {**COUNT, "packets": 4, "since": "2026-11-30T14:03:00Z"}
    permit = {**COUNT, "action": "permit", "packets": 7, "since": "2026-11-29T00:00:00Z"}
    daemon.replies["Stats"] = {"rules": [later, first, permit], "unparsable": 0}
    told = "  dropped    1,234 packets since 2026-11-30 14:03 UTC; ipsecctl stats has each rule\n"
    assert told in run("ipsecctl", "status").out
    daemon.status(policy_rules=1001)
    assert "dropped" not in run("ipsecctl", "status").out


def test_status_says_when_nothing_is_recorded(daemon: FakeDaemon, run: Run) -> None:
    """That is found out before the record is needed; of an older daemon it is not known."""
    assert "recorder" not in run("ipsecctl", "status").out
    daemon.status(flight_recorder=False)
    assert "  recorder   off: nobody can say later" in run("ipsecctl", "status").out


def test_status_says_how_many_filters_are_protected(daemon: FakeDaemon, run: Run) -> None:
    """In a line of its own, if there are any."""
    daemon.status(protected_filters=2)
    lines = run("ipsecctl", "status").out.splitlines()
    assert "  protected  2 filters of the settings that nothing blocks" in lines


def test_status_of_a_drifted_kernel(daemon: FakeDaemon, run: Run) -> None:
    """When the kernel holds something else, that is said first and the exit code is 1."""
    daemon.status(state="drifted", drift=["set s4 is missing"], observed="0badc0de0badc0de")
    ran = run("ipsecctl", "status")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[:3] == [
        "DRIFTED: the kernel does not hold what it should",
        "  set s4 is missing",
        "  what to do: put it back with 'systemctl restart ipsecd', and find out who changed it",
    ]
    assert "  kernel     NOT in step: wanted 3f2a91c05d7e…, found 0badc0de0bad…" in lines


def test_status_of_a_failed_policy(daemon: FakeDaemon, run: Run) -> None:
    """A policy that could not be loaded is said first and the exit code is 1."""
    daemon.status(state="failed", failures=["web.yaml:3: no action"])
    ran = run("ipsecctl", "status")
    assert ran.code == 1
    assert ran.out.startswith("FAILED: web.yaml:3: no action\n  what to do: ")
    daemon.status(state="failed", failures=["no action"], loaded_from="last-good")
    assert "assigned · 2 rules, 2 filters · as it last was good\n" in run("ipsecctl", "status").out
    daemon.status(state="failed", failures=["no action"], loaded_from="nothing")
    assert "assigned, not in force\n" in run("ipsecctl", "status").out
    assert run("ipsecctl", "status", "--json").code == 1


def test_status_of_a_file_that_cannot_be_used(daemon: FakeDaemon, run: Run) -> None:
    """A warning is said first, and is no failure."""
    daemon.status(file_warnings=["a.yaml cannot be read"])
    ran = run("ipsecctl", "status")
    assert ran.code == 0
    assert ran.out.startswith("warning: a.yaml cannot be read\n")
    daemon.status(file_warnings=["list 'drop' stays as it was\n  hint: look at it"])
    assert run("ipsecctl", "status").out.startswith(
        "warning: list 'drop' stays as it was\n  hint: look at it\n"
    )


@pytest.mark.parametrize("state", ["failed", "drifted"])
def test_status_of_very_much_that_is_wrong(daemon: FakeDaemon, run: Run, state: str) -> None:
    """A directory full of files that cannot be used is a screen, and all are in --json."""
    many = [f"file {n} cannot be used\n  hint: mend it" for n in range(2000)]
    daemon.status(state=state, failures=many, drift=many, file_warnings=many)
    for words in (("ipsecctl", "status"), ("netdiag", "/test:ipsec")):
        ran = run(*words)
        assert ran.code == 1
        assert "990 more\n" in ran.out
        assert len(ran.out.splitlines()) < 60
    assert len(json.loads(run("ipsecctl", "status", "--json").out)["failures"]) == 2000


def test_doctor_of_very_many_links(daemon: FakeDaemon, run: Run) -> None:
    """The first of them are shown, and how many there are; all are in --json, and in status too."""
    features = ["tcx", *(f"veth{n}: native" for n in range(3000))]
    daemon.status(features=features)
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "features": features}}
    out = run("ipsecctl", "doctor").out
    assert "tcx" in out
    assert "and 2,991 more" in out
    assert len(out) < 2000
    for verb in ("status", "doctor"):
        assert "veth2999: native" in run("ipsecctl", verb, "--json").out


def test_status_of_a_stopped_daemon(daemon: FakeDaemon, run: Run) -> None:
    """A daemon stopped on purpose says that nothing is enforced, and how to start it."""
    daemon.status(state="stopped", observed=None, wanted="", policy_rules=0, policy_filters=0)
    ran = run("ipsecctl", "status")
    assert ran.code == 0
    assert "stopped: nothing is enforced, 'ipsecctl net start policyagent' starts it" in ran.out
    assert "  kernel     holds nothing of ours\n" in ran.out
    assert "  policy     'Block UDP 1434 Filter', assigned, not in force\n" in ran.out


def test_status_warns_of_what_was_opened(daemon: FakeDaemon, run: Run) -> None:
    """Exemptions beyond the essentials, and essentials switched off, have lines of their own."""
    daemon.status(exemptions=[{"name": "kerberos", "reason": "r"}], unparsable="pass")
    out = run("ipsecctl", "status").out
    assert "  essentials switched off: a wide block cuts links\n" in out
    assert "  exempt     kerberos pass every filter\n" in out
    assert "  unparsable packets pass, even while something is blocked\n" in out


def test_columns_are_aligned(daemon: FakeDaemon, run: Run) -> None:
    """Lists are tables whose columns begin at the same place in every line."""
    lines = run("ipsecctl", "show", "filters").out.splitlines()
    assert len(lines) == 1 + len(FILTERS)
    assert {line.index(column) for line, column in zip(
        lines, ("STORE", "dynamic", "static"), strict=True
    )} == {lines[0].index("STORE")}  # fmt: skip
    assert "9m 58s" in lines[1]
    assert daemon.calls


def test_colour_only_where_it_is_wanted(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets colours, unless NO_COLOR is set; a pipe never does."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" not in run("ipsecctl", "status").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[" in run("ipsecctl", "status").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run("ipsecctl", "status").out
    assert len(daemon.calls) == 6


def test_empty_lists_are_said_in_words(daemon: FakeDaemon, run: Run) -> None:
    """A list without entries is a sentence, not a lonely header."""
    daemon.replies["ListFilters"] = {"filters": []}
    assert run("ipsecctl", "show").out == "no filter is in force: everything passes\n"


def test_block_says_what_the_daemon_did(daemon: FakeDaemon, run: Run) -> None:
    """A change is confirmed with what the daemon has put in force, not with what was asked."""
    rule = {
        "name": "web",
        "action": "block",
        "filters": ["*=0:80:TCP"],
        "interface": "lan",
        "remaining_s": 300.0,
        "by": "uid 0 (root)",
        "created": 1.0,
    }
    daemon.replies["AddDynamicRules"] = added_reply([rule])
    ran = run("ipsecctl", "block", "tcp/80", "--for", "10m")
    assert ran.out == "block *=0:80:TCP on lan links · in force for 5m as 'web'\n"


ABSENT = "container:web matches nothing at the moment: no container engine listens"


@pytest.mark.parametrize(
    ("command", "method", "member"),
    [
        ("block container:web=*", "AddDynamicRules", ""),
        ("permit container:web=*", "AddDynamicRules", ""),
        ("ipseccmd -f [container:web=*]", "AddDynamic", ""),
        ("policy assign Web", "AssignPolicy", "outcome"),
        ("reload", "Reload", "outcome"),
        ("rule add P R container:web=* --action block", "PutRules", "outcome"),
        ("ipseccmd -w REG -p Web -x", "AssignPolicy", "outcome"),
        ("net start policyagent", "Start", "outcome"),
    ],
)
def test_what_matches_nothing_now_is_done_and_said(
    daemon: FakeDaemon, run: Run, command: str, method: str, member: str
) -> None:
    """A filter for what is not there yet is accepted, and standard error says that it waits."""
    parameters: dict[str, Any] = {
        "name": "x",
        "action": "block",
        "filters": [],
        "interface": None,
        "ttl_s": None,
        "until": None,
    }
    reply = daemon.make_up(method, parameters)
    assert isinstance(reply, dict)
    if member:
        reply = {member: {**reply[member], "warnings": [ABSENT]}}
    else:
        reply["warnings"] = [ABSENT]
    daemon.replies[method] = reply
    ran = run("ipsecctl", *command.split(" "))
    assert ran.code == 0
    assert ran.err == f"warning: {ABSENT}\n"


def test_status_and_doctor_say_what_matches_nothing(daemon: FakeDaemon, run: Run) -> None:
    """Both name it with the reason; many of them are a screen, and all are in --json."""
    many = [f"container:c{n} matches nothing at the moment: no engine" for n in range(500)]
    daemon.status(warnings=[ABSENT, *many])
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "warnings": [ABSENT, *many]}}
    for verb in ("status", "doctor"):
        ran = run("ipsecctl", verb)
        assert ran.code == 0
        assert ABSENT in ran.out
        assert "and 491 more" in ran.out
        assert len(ran.out.splitlines()) < 35
        assert many[-1] in run("ipsecctl", verb, "--json").out
        assert "nothing is wrong" not in ran.out


def test_status_and_doctor_say_what_the_kernel_cannot_judge(daemon: FakeDaemon, run: Run) -> None:
    """One sentence, where it matters."""
    gap = "blocks of what is from this host do not see all of it"
    daemon.status(gaps=[gap])
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "gaps": [gap]}}
    assert f"  unseen     {gap}\n" in run("ipsecctl", "status").out
    assert run("ipsecctl", "doctor").out.splitlines()[0] == f"warning: {gap}"


def test_doctor_says_first_whether_anything_is_wrong(daemon: FakeDaemon, run: Run) -> None:
    """That nothing is wrong is a sentence; what is wrong is named before all that may be so."""
    assert run("ipsecctl", "doctor").out.splitlines()[0] == "nothing is wrong here"
    troubles = ["web.yaml:3: no action\n  hint: add one"]
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "troubles": troubles}}
    first = run("ipsecctl", "doctor").out.splitlines()[0]
    assert first == "WRONG: web.yaml:3: no action; hint: add one"
    refused = {**EXAMINATION["assessments"][0], "usable": False, "reasons_against": ["no"]}
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "assessments": [refused]}}
    first = run("ipsecctl", "doctor").out.splitlines()[0]
    assert first == "WRONG: nftables enforces, and cannot be used by what was tried now"


@pytest.mark.parametrize(
    ("refusal", "done", "said"),
    [
        ("", "a table was made", "  + tried: a table was made"),
        ("Operation not supported", "", "  - the kernel refused it: Operation not supported"),
    ],
)
def test_doctor_tries_what_the_daemon_may_not(
    daemon: FakeDaemon,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
    done: str,
    said: str,
) -> None:
    """Where the service may make no namespace, whoever runs the command may be able to."""
    untried = {**EXAMINATION["assessments"][0], "reasons_for": [], "untried": "not allowed"}
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "assessments": [untried]}}
    answer = {"refusal": refusal, "done": done, "untried": "", "features": []}

    def answered(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert words[-2:] == ["ipsecd.backend.trial_process", "nftables"]
        return subprocess.CompletedProcess(words, 0, json.dumps(answer).encode(), b"")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", answered)
    ran = run("ipsecctl", "doctor")
    assert said in ran.out
    assert "not allowed" not in ran.out
    assert ("WRONG: nftables enforces" in ran.out) == bool(refusal)


def test_doctor_says_what_nobody_could_try(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root nothing is tried here, and what was left out is said with the reason."""
    untried = {**EXAMINATION["assessments"][0], "untried": "not allowed"}
    daemon.replies["Examine"] = {"examination": {**EXAMINATION, "assessments": [untried]}}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was tried"))
    assert "  - not tried: not allowed" in run("ipsecctl", "doctor").out


def test_long_lists_are_summed_up(daemon: FakeDaemon, run: Run) -> None:
    """What was removed is counted, with its first names."""
    removed = [f"ban-{n}" for n in range(60_000)]
    rest: dict[str, Any] = {"reduced": [], "filters": 60_000, "still_blocked": []}
    daemon.replies["RemoveDynamicRules"] = {"removed": removed, **rest}
    out = run("ipsecctl", "unblock", "203.0.113.7").out
    assert out.startswith("removed 60,000 dynamic rules: 'ban-0', 'ban-1'")
    assert out.endswith(" and 59,992 more\n")
    assert len(out) < 200


def test_unblock_of_what_is_not_there(daemon: FakeDaemon, run: Run) -> None:
    """The refusal of the daemon, which was told what was typed, is final."""
    daemon.replies["RemoveDynamicRules"] = NotFound("no such rule", "ipsecctl show dynamic")
    ran = run("ipsecctl", "unblock", "udp/1434")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "ipsecctl: no such rule\n  hint: ipsecctl show dynamic\n"
    assert daemon.calls == [("RemoveDynamicRules", {"selectors": ["udp/1434"]})]


def test_change_is_not_said_twice(daemon: FakeDaemon, run: Run) -> None:
    """What is assigned now is not added to a message that says it already."""
    for message, assigned in (
        ("policy 'Web' is assigned", "Web"),
        ("policy 'Web' is assigned already", "Web"),
        ("no policy is assigned", None),
    ):
        outcome = {**OUTCOME, "message": message, "assigned": assigned}
        daemon.replies["Reload"] = {"outcome": outcome}
        assert run("ipsecctl", "reload").out == f"{message}\n"


def test_text_that_is_no_text(daemon: FakeDaemon, run: Run) -> None:
    """A name that is not UTF-8 is refused, and never sent as another name."""
    ran = run("ipsecctl", "policy", "assign", "Web\udcff")
    assert (ran.code, ran.out) == (2, "")
    assert "UTF-8" in ran.err
    assert "no such file" in run("ipsecctl", "check", "web\udcff.yaml").err.lower()
    assert daemon.calls == []


def test_apply_passes_the_file_itself(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """The document goes to the daemon as an open file, never as text."""
    file = tmp_path / "web.yaml"
    file.write_text(DOCUMENT)
    ran = run("ipsecctl", "apply", str(file), "--assign")
    assert ran.out == "the change is made · assigned: 'Block UDP 1434 Filter'\n"
    assert daemon.document == DOCUMENT.encode()
    parameters = {
        "document": None,
        "source": str(file),
        "assign": True,
        **NOT_ASKED,
        "dry_run": False,
        "new": None,
    }
    assert daemon.calls == [("ApplyPolicy", parameters)]


@pytest.mark.parametrize("given", ["file", "-"])
def test_apply_says_how_many_more_errors_there_are(
    daemon: FakeDaemon, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The daemon tells the first error of a document; of another file there is nothing to add."""
    file = tmp_path / "web.yaml"
    wrong = DOCUMENT.replace("action: block", "action: drop") + "expect: [no]\nzzz: x\n"
    file.write_text(wrong)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wrong.encode())))
    path, source = (str(file), str(file)) if given == "file" else ("-", "<stdin>")
    hint = "  hint: write block or permit"
    for of, told in ((source, "; ipsecctl check tells of 2 more errors"), ("other", "")):
        daemon.replies["ApplyPolicy"] = InvalidInput(
            "'drop' is not block or permit", "write block or permit", source=of, line=4
        )
        ran = run("ipsecctl", "apply", path)
        first = f"ipsecctl: {of}:4: 'drop' is not block or permit"
        assert (ran.code, ran.err) == (1, f"{first}\n{hint}{told}\n")
    daemon.replies["ApplyPolicy"] = InvalidInput("no", source=source, line=4)
    file.write_text(wrong.replace("expect: [no]\nzzz: x\n", ""))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert run("ipsecctl", "apply", path).err == f"ipsecctl: {source}:4: no\n"


def test_apply_reads_standard_input(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-`` takes the document from standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DOCUMENT.encode())))
    assert run("ipsecctl", "apply", "-", "--dry-run", "--json").code == 0
    assert daemon.document == DOCUMENT.encode()
    assert daemon.calls[0][1]["dry_run"] is True
    assert daemon.calls[0][1]["source"] == "<stdin>"


def test_apply_reads_pipes_itself(daemon: FakeDaemon, run: Run) -> None:
    """A pipe, as of a process substitution, is read here: the daemon must not wait for it."""
    end, start = os.pipe()
    os.write(start, DOCUMENT.encode())
    os.close(start)
    try:
        assert run("ipsecctl", "apply", f"/dev/fd/{end}").code == 0
    finally:
        os.close(end)
    assert daemon.document == DOCUMENT.encode()
    assert daemon.regular


def test_apply_of_a_missing_file(daemon: FakeDaemon, run: Run) -> None:
    """A file that cannot be read is refused here, and the daemon hears nothing."""
    ran = run("ipsecctl", "apply", "/nonexistent/web.yaml")
    assert ran.code == 1
    assert "cannot read '/nonexistent/web.yaml': No such file or directory" in ran.err
    assert "cannot read '/': Is a directory" in run("ipsecctl", "apply", "/").err
    assert daemon.calls == []


def test_export_is_the_bare_document(daemon: FakeDaemon, run: Run) -> None:
    """An exported policy can be applied as it is."""
    assert run("ipsecctl", "policy", "export", "Web").out == DOCUMENT
    assert daemon.calls


def test_backend_says_which_enforces_and_changes_it(daemon: FakeDaemon, run: Run) -> None:
    """Without a name it changes nothing; a change that is not kept says what to do."""
    assert run("ipsecctl", "backend").out == "nftables\n"
    assert daemon.calls == [("Status", {})]
    assert run("ipsecctl", "backend", "xdp").out == "xdp enforces now, in the place of nftables\n"
    assert daemon.calls[1:] == [("SetBackend", {"name": "xdp"})]
    daemon.replies["SetBackend"] = {
        "name": "nftables", "before": "nftables", "kept": False, "setting": "xdp",
    }  # fmt: skip
    said = run("ipsecctl", "backend", "nftables").out
    assert said.startswith("nftables enforces already\nthe next start takes xdp again")


def test_explain_names_the_deciding_filter(daemon: FakeDaemon, run: Run) -> None:
    """Explain prints the decision, its filter, and where that was written."""
    ran = run("ipsecctl", "explain", "tcp 203.0.113.7:4000 > me:80")
    first, second = ran.out.splitlines()
    assert first.startswith("block  tcp 203.0.113.7:4000 > ")
    for part in ("*=0:80:TCP", "static", "'Web'", "'Block web'"):
        assert part in second
    daemon.replies["Explain"] = {
        "explanation": {**EXPLANATION, "by": None, "reason": "no filter", "decision": "permit"}
    }
    assert "no filter" in run("ipsecctl", "explain", "tcp 1.2.3.4:5 > me:6").out


def test_explain_tells_of_what_leaves_as_this_hosts(daemon: FakeDaemon, run: Run) -> None:
    """A forwarded packet that may pass can be blocked when its source is translated."""
    permitted = {**EXPLANATION, "by": None, "reason": "no filter", "decision": "permit"}
    members = ("decision", "reason", "by", "beaten", "audited", "packet", "source_ports")
    leaving = {key: EXPLANATION[key] for key in members}
    daemon.replies["Explain"] = {"explanation": {**permitted, "leaving": leaving}}
    lines = run("ipsecctl", "explain", "tcp 10.0.0.5:5 > 1.2.3.4:6").out.splitlines()
    assert lines[0].startswith("permit")
    assert lines[2] == "and if it leaves under this host's address:"
    assert lines[3].startswith("block")
    daemon.replies["Explain"] = {
        "explanation": {**permitted, "leaving": {**leaving, "by": None, "decision": "permit"}}
    }
    assert "leaves" not in run("ipsecctl", "explain", "tcp 10.0.0.5:5 > 1.2.3.4:6").out


def test_explain_tells_of_open_connections_and_source_ports(daemon: FakeDaemon, run: Run) -> None:
    """Where they make a difference, with a line for each range of ports, and a note once."""
    permitted = {"decision": "permit", "reason": "no filter", "by": None}
    block = {key: EXPLANATION[key] for key in ("decision", "reason", "by")}
    ports = [
        {"first": 0, "last": 52, **block},
        {"first": 53, "last": 53, **permitted},
        {"first": 54, "last": 65535, **block},
    ]
    known: dict[str, Any] = {**permitted, "beaten": [], "packet": "P established"}
    known["source_ports"] = [{"first": 0, "last": 65535, **permitted}]
    answer = {**EXPLANATION, "source_ports": ports, "established": known, "when_opening": True}
    daemon.replies["Explain"] = {"explanation": answer}
    lines = run("ipsecctl", "explain", "tcp 203.0.113.7 > me:80").out.splitlines()
    assert lines[2].startswith("  from port 0-52: block, by block *=0:80:TCP")
    assert lines[3] == "  from port 53: permit, by no filter"
    assert lines[4].startswith("  from port 54-65535: block")
    assert lines[5:8] == [
        "part of an open connection: permit  P established",
        "  by      no filter",
        "  from    any source port",
    ]
    assert "known from its next packet out" in lines[8]
    assert len(lines) == 9


def test_bad_filter_is_shown_with_a_caret(daemon: FakeDaemon, run: Run) -> None:
    """Input with a position is shown with a caret under the place, and nothing is sent."""
    ran = run("ipsecctl", "block", "*=0:99999:TCP")
    assert ran.code == 1
    _message, text, caret, hint = ran.err.splitlines()[:4]
    assert text == "  *=0:99999:TCP"
    assert caret == "      ^"
    assert hint.startswith("  hint: ")
    assert daemon.calls == []


def test_caret_cannot_carry_escapes(daemon: FakeDaemon, run: Run) -> None:
    """What a terminal would obey is not printed as it was typed."""
    ran = run("ipsecctl", "block", "*=0:\x1b[31m:TCP")
    assert ran.code == 1
    assert "\x1b" not in ran.err
    assert daemon.calls == []


def test_errors_of_the_daemon_keep_their_words(daemon: FakeDaemon, run: Run) -> None:
    """A refusal is printed as the daemon worded it, with file and line when it has them."""
    daemon.replies["Reload"] = InvalidInput("no action", "add one", source="web.yaml", line=3)
    ran = run("ipsecctl", "reload")
    assert ran.code == 1
    assert ran.err == "ipsecctl: web.yaml:3: no action\n  hint: add one\n"
    daemon.replies["Reload"] = Refused("stopped")
    assert run("ipsecctl", "reload").err == "ipsecctl: stopped\n"


@pytest.mark.usefixtures("no_daemon")
@pytest.mark.parametrize("line", [line for line, _ in CALLS])
def test_daemon_not_reachable(run: Run, line: str) -> None:
    """Without a daemon every verb that needs one says what to do and exits with 3."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.out) == (3, "")
    assert "cannot be reached at" in ran.err
    assert "systemctl start ipsecd" in ran.err


def test_daemon_that_hangs_up(daemon: FakeDaemon, run: Run) -> None:
    """A connection that ends without an answer, as for strangers, is exit 3 with the groups."""
    daemon.silent = True
    ran = run("ipsecctl", "status")
    assert ran.code == 3
    assert "'ipsec-view'" in ran.err


def test_socket_option_wins(daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--socket before or after the verb wins over IPSECD_SOCKET, for dialects too."""
    monkeypatch.setenv("IPSECD_SOCKET", "/nonexistent")
    path = str(daemon.path)
    assert run("ipsecctl", "--socket", path, "status").code == 0
    assert run("ipsecctl", "status", f"--socket={path}").code == 0
    assert run("ipsecctl", "--socket", path, "ipseccmd", "-u").code == 0
    assert run("ipsecctl", "status").code == 3


USAGE_ERRORS = [
    "", "frobnicate", "status extra", "status --frob", "show nothing", "show policy",
    "show filters extra", "block", "block tcp/80 --for soon", "block tcp/80 --for 0",
    "block tcp/80 --for", "block tcp/80 --lan --dialup", "unblock", "apply", "block tcp/80 --add",
    "block tcp/80 --replace", "block tcp/80 --name a --add --replace",
    "policy", "policy frob", "policy create", "rule", "rule frob", "rule add P R",
    "rule add P R tcp/80", "rule add P R tcp/80 --action maybe", "rule remove P", "explain",
    "explain --offline udp", "explain --me 10.0.0.1 udp", "check", "format", "diff",
    "--socket", "netdiag /test:dns", "gpupdate /frob",
]  # fmt: skip


@pytest.mark.parametrize("line", USAGE_ERRORS)
def test_usage_errors(daemon: FakeDaemon, run: Run, line: str) -> None:
    """A command line that does not exist is exit 2 with words on stderr, and calls nothing."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert daemon.calls == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_on_every_verb(run: Run, verb: str) -> None:
    """Every verb has help, reached in two ways, and is in the overview."""
    ran = run("ipsecctl", "help", verb)
    assert ran.code == 0
    assert ran.out.startswith(f"usage: ipsecctl {verb}")
    assert run("ipsecctl", verb, "--help") == ran
    assert f"\n  {verb} " in run("ipsecctl", "help").out


def test_interfaces_are_listed(daemon: FakeDaemon, run: Run) -> None:
    """Every interface has its type, state and addresses."""
    out = run("ipsecctl", "show", "interfaces").out
    for interface in INTERFACES:
        assert str(interface["name"]) in out
    assert "192.168.1.1/24 2001:db8::1/64" in out
    assert daemon.calls


def test_stats_are_counted_out(daemon: FakeDaemon, run: Run) -> None:
    """Stats name each rule's packets and bytes, and what could not be parsed."""
    out = run("ipsecctl", "stats").out
    assert "1,234" in out
    assert "56,789" in out
    assert "3 packets dropped with headers that cannot be read" in out
    assert daemon.calls


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    """A daemon that is busy accepting others is not taken for one that is not there."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as others:
        listening.bind(str(path))
        listening.listen(0)
        waiting = others.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        connected = threading.Event()

        def connect() -> None:
            Client(str(path))._connect().close()
            connected.set()

        thread = threading.Thread(target=connect)
        thread.start()
        assert not connected.wait(0.2)
        for _ in range(2):
            listening.accept()[0].close()
        thread.join(60)
        assert connected.is_set()
