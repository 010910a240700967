"""Tests of the verbs about the history."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import DOCUMENT, HISTORY, OUTCOME, REPLIES, FakeDaemon


def test_the_history_says_who_did_what(daemon: FakeDaemon, run: Run) -> None:
    """The newest first, with the number of the state before a change of policies."""
    ran = run("ipsecctl", "history")
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1.0))
    assert ran.out.splitlines() == [
        f"      {at}  root (sudo by ann)  AddToList",
        "      list 'b': 1 → 2 entries",
        f"      {at}  root  AddDynamicRules by fail2ban",
        "      3 rules put in 3 changes: block 192.0.2.1=0 for 60 s, block 192.0.2.2=0 for 60 s",
        f"  @1  {at}  root (login ann)  ApplyPolicy by ipsecctl · ticket 7",
        "      policy 'Web' is changed: +'No telnet'",
        f"      {at}  ipsecd  start",
        "      found at the start",
    ]
    assert json.loads(run("ipsecctl", "history", "--json").out) == HISTORY
    daemon.replies["GetHistory"] = {"rows": []}
    assert run("ipsecctl", "history").out == "nothing has changed yet\n"


@pytest.mark.parametrize("words", ["@2", "state @2", "--json @2"])
def test_a_state_is_shown(daemon: FakeDaemon, run: Run, words: str) -> None:
    """With what was assigned, and as one document for programs."""
    ran = run("ipsecctl", "show", *words.split())
    assert daemon.calls == [("GetState", {"state": 2})]
    if "--json" in words:
        assert json.loads(ran.out)["policies"][0]["document"] == DOCUMENT
    else:
        assert ran.out == f"# assigned at @2, stored in policies/web.yaml\n{DOCUMENT}"


def state(document: str | None, assigned: str | None = "Web") -> dict[str, Any]:
    policy = {"name": "Web", "path": "p", "document": document, "assigned": bool(assigned)}
    policies = [] if document is None else [policy]
    return {"policies": policies, "assigned": assigned, "domain": None}


OPENED = [
    line
    for example in ("198.51.100.7:40000 > me:80", "[2001:db8::7]:40000 > me:80")
    for line in (
        f"block becomes permit: tcp {example}",
        "  before: block *=0:80:TCP  (static: 'Web' / 'Block web')",
        "  then:   no filter",
    )
] + ["packets whose headers cannot be read pass, as nothing is blocked any more"]


@pytest.mark.parametrize(
    ("new", "lines"),
    [
        (state(DOCUMENT), ["the policies are the same at @3 and @1"]),
        (
            state(f"# mine\n{DOCUMENT}"),
            ["policy 'Web':", "+# mine", "no packet is decided differently, which is proven"],
        ),
        (state(DOCUMENT, None), ["~ assigned: 'Web' → none", *OPENED]),
    ],
)
def test_two_states_are_compared(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch, new: dict[str, Any], lines: Any
) -> None:
    """By their rules, by their lines where those are the same, and by what was assigned."""
    states = {3: state(DOCUMENT), 1: new}
    made_up = daemon.make_up

    def make_up(method: str, parameters: dict[str, Any]) -> Any:
        return states[parameters["state"]] if method == "GetState" else made_up(method, parameters)

    monkeypatch.setattr(daemon, "make_up", make_up)
    monkeypatch.delitem(REPLIES, "GetState")
    ran = run("ipsecctl", "diff", "@3", "@1")
    assert ran.out.splitlines() == lines
    assert ran.code == (0 if "same" in lines[0] else 1)
    answer = json.loads(run("ipsecctl", "diff", "@3", "@1", "--json").out)
    assert (answer["from"], answer["to"], answer["equal"]) == (3, 1, "same" in lines[0])
    assert answer["verdicts"]["equal"] == (not set(OPENED) & set(lines))


def test_rules_that_differ_are_named(daemon: FakeDaemon, run: Run) -> None:
    """A policy that is gone is, with all its rules; one state alone is compared with now."""
    daemon.replies["GetState"] = state(DOCUMENT)
    assert run("ipsecctl", "diff", "@2").code == 0
    assert [parameters["state"] for _, parameters in daemon.calls] == [2, 0]


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("rollback", {"state": 1, "dry_run": False, "live": None}),
        ("rollback 3 --dry-run", {"state": 3, "dry_run": True, "live": None}),
        ("rollback @2", {"state": 2, "dry_run": False, "live": None}),
    ],
)
def test_a_rollback_is_one_call(
    daemon: FakeDaemon, run: Run, line: str, parameters: dict[str, Any]
) -> None:
    """It prints what changed."""
    daemon.replies["Rollback"] = {"outcome": {**OUTCOME, "changes": ["- policy 'B'"]}}
    ran = run("ipsecctl", *line.split())
    assert daemon.calls == [("Rollback", parameters)]
    assert ran.out.endswith("- policy 'B'\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rollback x", "'x' is no state"),
        ("rollback -- -1", "'-1' is no state"),
        ("show @x", "'@x' is no state"),
        ("show @²", "'@²' is no state"),
        ("diff @1 file", "a file cannot be compared with an earlier state"),
    ],
)
def test_what_is_no_state_is_refused(daemon: FakeDaemon, run: Run, line: str, message: str) -> None:
    """Before anything is asked of the daemon."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, daemon.calls) == (2, [])
    assert message in ran.err
