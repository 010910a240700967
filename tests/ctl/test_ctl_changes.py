"""Tests of the options that all verbs take which change something."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ipsecctl.changing import UNSET
from ipsecctl.generate.leaves import leaves
from ipsecctl.grammar import OF_CHANGES
from ipsecd.errors import Cut, Refused, WouldCut
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import STATUS, FakeDaemon

NOTHING = {
    "confirm_s": None,
    "force": None,
    "message": None,
    "terminal": None,
    "login": None,
    "sudo_user": None,
    "connection": None,
    "login_uid": None,
    "command": None,
}
COMMAND = "ipsecctl"


LOGIN = "login 7"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sessionid").write_text("7")
    monkeypatch.setattr("ipsecctl.changing.LOGIN", str(tmp_path / "sessionid"))
    monkeypatch.setattr("ipsecctl.changing.PROCESSES", str(tmp_path))
    (tmp_path / "loginuid").write_text(str(os.getuid()))
    monkeypatch.setattr("ipsecctl.changing.LOGIN_USER", str(tmp_path / "loginuid"))
    (tmp_path / "comm").write_text(f"{COMMAND}\n")
    monkeypatch.setattr("ipsecctl.changing.COMMAND", str(tmp_path / "comm"))
    for name in ("SUDO_USER", "IPSECD_CONFIRM", "IPSECD_FORCE", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)


def test_what_changes_something_takes_the_options_of_changes() -> None:
    """A verb has them all or none, by what its record says."""
    for _, _, verb in leaves():
        assert {option in verb.options for option in OF_CHANGES} == {verb.changes}, verb.path


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("flush", None),
        ("flush --force", {"force": True}),
        ("flush --confirm 90", {"confirm_s": 90.0, "login": LOGIN}),
        (
            "policy assign Web --confirm 1m --message why",
            {"confirm_s": 60.0, "login": LOGIN, "message": "why"},
        ),
        ("list remove bans 192.0.2.1 --message=", {"message": ""}),
    ],
)
def test_options_of_changes(
    daemon: FakeDaemon, run: Run, line: str, asked: dict[str, object] | None
) -> None:
    """They are in the call; nothing is sent of what was not asked for."""
    assert run("ipsecctl", *line.split()).code == 0
    assert daemon.changes == [asked and {**NOTHING, "command": COMMAND, **asked}]


@pytest.mark.parametrize(
    ("told", "login_uid"), [("4294967294", 4294967294), ("4294967295", None), ("", None)]
)
def test_who_has_logged_in_is_told_if_it_is_another(
    daemon: FakeDaemon, run: Run, tmp_path: Path, told: str, login_uid: int | None
) -> None:
    """As after su; a daemon that is confined does not see it."""
    (tmp_path / "loginuid").write_text(told)
    assert run("ipsecctl", "flush").code == 0
    asked = {**NOTHING, "login_uid": login_uid, "command": COMMAND}
    assert daemon.changes == [None if login_uid is None else asked]


def test_a_length_of_time_is_needed(daemon: FakeDaemon, run: Run) -> None:
    """A mistake is told before anything is changed."""
    ran = run("ipsecctl", "flush", "--confirm", "soon")
    assert (ran.code, daemon.calls) == (2, [])
    assert "'soon' is not a length of time" in ran.err


def test_old_commands_are_told_by_the_environment(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no such options, and are made to be confirmed all the same."""
    monkeypatch.setenv("IPSECD_CONFIRM", "2m")
    monkeypatch.setenv("IPSECD_FORCE", "1")
    monkeypatch.setenv("SUDO_USER", "ann")
    assert run("ipseccmd", "-f", "*=0:1434:UDP", "-n", "BLOCK").code == 0
    assert daemon.changes == [
        {
            **NOTHING,
            "confirm_s": 120.0,
            "login": LOGIN,
            "force": True,
            "sudo_user": "ann",
            "command": COMMAND,
        },
    ]


@pytest.mark.parametrize(
    ("variable", "value"), [("IPSECD_CONFIRM", "soon"), ("IPSECD_FORCE", "maybe")]
)
def test_a_variable_that_says_nothing_is_refused(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """Who mistypes it must not believe that the change is going to be put back."""
    monkeypatch.setenv(variable, value)
    ran = run("ipseccmd", "-f", "*=0:1434:UDP", "-n", "BLOCK")
    assert (ran.code, daemon.calls) == (2, [])
    assert value in ran.err


def test_who_asked_for_it_is_told_what_to_do(daemon: FakeDaemon, run: Run) -> None:
    """What keeps the change stands on standard error, so that no script reads it as an answer."""
    ran = run("ipsecctl", "flush", "--confirm", "60s")
    assert ran.code == 0
    assert "put back as it was in 59s" in ran.err
    assert "log in anew and run: ipsecctl confirm" in ran.err
    assert "confirm" not in ran.out
    assert [method for method, _ in daemon.calls] == ["FlushDynamic", "GetUnconfirmed"]


def test_who_changed_nothing_is_told_so(daemon: FakeDaemon, run: Run) -> None:
    """Nobody waits for something that will not happen."""
    daemon.replies["GetUnconfirmed"] = {"change": None, "put_back": None}
    assert "nothing to confirm" in run("ipsecctl", "flush", "--confirm", "60s").err


def test_a_refused_change_has_nothing_to_confirm(daemon: FakeDaemon, run: Run) -> None:
    """It is told as every refusal."""
    daemon.replies["FlushDynamic"] = Refused("no", "because")
    ran = run("ipsecctl", "flush", "--confirm", "60s")
    assert (ran.code, ran.err) == (1, "ipsecctl: no\n  hint: because\n")


@pytest.mark.parametrize(
    ("line", "call", "change"),
    [
        ("confirm", "Confirm", {**NOTHING, "login": LOGIN}),
        (
            "confirm --force",
            "Confirm",
            {**NOTHING, "login": LOGIN, "force": True, "command": COMMAND},
        ),
        ("revert", "Revert", {**NOTHING, "login": LOGIN}),
    ],
)
def test_a_change_is_kept_or_put_back(
    daemon: FakeDaemon, run: Run, line: str, call: str, change: dict[str, object] | None
) -> None:
    """Each is one call, and prints what came of it."""
    ran = run("ipsecctl", *line.split())
    assert (ran.code, ran.err) == (0, "")
    assert daemon.calls == [(call, {})]
    assert daemon.changes == [change]


def test_status_says_what_waits(daemon: FakeDaemon, run: Run) -> None:
    """Before all that is in order: who made the change, how long is left, and what to do."""
    change = {"method": "ApplyPolicy", "by": "uid 0 (root) pid 9", "message": "mail", "left_s": 41}
    waiting = {"status": {**STATUS, "unconfirmed": change, "put_back": None}}
    daemon.replies["Status"] = waiting
    first, second, *_ = run("ipsecctl", "status").out.splitlines()
    assert first == "UNCONFIRMED: the change by uid 0 (root) pid 9 (mail) is put back in 41s"
    assert "ipsecctl confirm" in second
    sentence = "the change by uid 0 (root) pid 9 was put back: nobody confirmed it in time"
    daemon.replies["Status"] = {"status": {**STATUS, "unconfirmed": None, "put_back": sentence}}
    assert run("ipsecctl", "status").out.startswith(f"put back: {sentence}\n")


@pytest.mark.parametrize("number", [None, UNSET])
def test_without_a_number_a_login_is_its_session(
    daemon: FakeDaemon,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: str | None,
) -> None:
    """As in a container, or where nothing gives logins numbers."""
    file = tmp_path / "number"
    if number:
        file.write_text(number)
    monkeypatch.setattr("ipsecctl.changing.LOGIN", str(file))
    assert run("ipsecctl", "confirm").code == 0
    assert daemon.changes == [{**NOTHING, "login": f"session {os.getsid(0)}"}]


CONNECTION = "192.0.2.7 50000 192.0.2.1 22"


def test_the_connection_is_told(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the server of SSH tells it, with every change and no question."""
    monkeypatch.setenv("SSH_CONNECTION", CONNECTION)
    assert run("ipsecctl", "flush").code == 0
    assert run("ipsecctl", "show", "dynamic").code == 0
    assert daemon.changes[0] == {**NOTHING, "command": COMMAND, "connection": CONNECTION}


def test_the_connection_is_known_from_a_parent(
    daemon: FakeDaemon, run: Run, tmp_path: Path
) -> None:
    """However many are between, and whatever their programs are called."""
    parents = {os.getppid(): 70, 70: 71, 71: 1}
    for process, parent in parents.items():
        (tmp_path / str(process)).mkdir()
        (tmp_path / str(process) / "stat").write_text(f"{process} (a) S 5 (b)) S {parent} 1 1")
        (tmp_path / str(process) / "environ").write_text("HOME=/root\0")
    assert run("ipsecctl", "flush").code == 0
    (tmp_path / "71/environ").write_text(f"HOME=/root\0SSH_CONNECTION={CONNECTION}\0")
    assert run("ipsecctl", "flush").code == 0
    assert daemon.changes == [None, {**NOTHING, "command": COMMAND, "connection": CONNECTION}]


def test_what_would_be_cut_is_told_to_programs(daemon: FakeDaemon, run: Run) -> None:
    """As JSON beside the words, if that is wanted."""
    cut = Cut("the login", "tcp 192.0.2.7:1 > 192.0.2.1:22", "*=0", "R", "P", "static")
    daemon.replies["FlushDynamic"] = WouldCut.of([cut], "type --force")
    ran = run("ipsecctl", "flush", "--json")
    assert (ran.code, json.loads(ran.out)["cuts"]) == (1, [cut.fields()])
    assert "it would cut the login, because '*=0' in rule 'R' of policy 'P' blocks" in ran.err
    assert run("ipsecctl", "flush").out == ""


@pytest.mark.parametrize(
    ("words", "filters"),
    [
        ("ssh", ["*=0:22:TCP"]),
        ("DNS tcp/80", ["*=0:53:UDP", "*=0:53:TCP", "*=0:80:TCP"]),
        ("0 = git", ["0=git"]),
        ("git = 0", ["git=0"]),
    ],
)
def test_a_rule_is_of_services_too(
    daemon: FakeDaemon, run: Run, words: str, filters: list[str]
) -> None:
    """By the names that a preset takes; within a filter such a name is that of a host."""
    assert run("ipsecctl", "rule", "add", "P", "R", *words.split(), "--action", "permit").code == 0
    ((_, asked),) = daemon.calls
    assert asked["rules"][0]["filters"] == filters
