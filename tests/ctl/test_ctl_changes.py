"""Tests of the options that all verbs take which change something."""

from __future__ import annotations

import pytest

from ipsecctl.generate.leaves import leaves
from ipsecctl.grammar import OF_CHANGES
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon

NOTHING = {
    "confirm_s": None,
    "force": None,
    "message": None,
    "terminal": None,
    "sudo_user": None,
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_USER", "IPSECD_CONFIRM", "IPSECD_FORCE"):
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
        ("flush --confirm 90", {"confirm_s": 90.0}),
        ("policy assign Web --confirm 1m --message why", {"confirm_s": 60.0, "message": "why"}),
        ("list remove bans 192.0.2.1 --message=", {"message": ""}),
    ],
)
def test_options_of_changes(
    daemon: FakeDaemon, run: Run, line: str, asked: dict[str, object] | None
) -> None:
    """They are in the call; nothing is sent of what was not asked for."""
    assert run("ipsecctl", *line.split()).code == 0
    assert daemon.changes == [asked and {**NOTHING, **asked}]


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
        {**NOTHING, "confirm_s": 120.0, "force": True, "sudo_user": "ann"},
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
