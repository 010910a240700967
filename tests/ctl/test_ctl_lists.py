"""The verbs on lists: what is passed as a file, what is shown, and what works without a daemon."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from ipsecd.errors import Refused
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import LIST, LIST_OUTCOME, FakeDaemon

TEXT = b"# drop\n192.0.2.7\n192.0.2.0/24 ; why\n10.0.0.1/8\n192.0.2.7\n"


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "drop.txt").write_bytes(TEXT)
    return str(tmp_path / "drop.txt")


@pytest.mark.parametrize(("verb", "method"), [("create", "CreateList"), ("replace", "ReplaceList")])
def test_files_are_passed_open(
    daemon: FakeDaemon, run: Run, path: str, verb: str, method: str
) -> None:
    """The daemon gets a descriptor, with the form and the will of who asks."""
    words = ["--from", path] if verb == "create" else [path]
    ran = run("ipsecctl", "list", verb, "drop", *words, "--format", "csv:ip", "--accept")
    assert (ran.code, ran.out, ran.err) == (0, f"{LIST_OUTCOME['message']}\n", "")
    parameters = {"name": "drop", "source": path, "format": "csv:ip", "accept": True}
    assert daemon.calls == [(method, {**parameters, "document": None})]
    assert daemon.document == TEXT


def test_standard_input_is_passed_as_a_file(
    daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied first, so that the daemon waits for nobody."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    assert run("ipsecctl", "list", "replace", "drop", "-").code == 0
    assert daemon.calls[0][1]["source"] == "<stdin>"
    assert (daemon.document, daemon.regular) == (TEXT, True)


def test_warnings_and_refusals_are_told(daemon: FakeDaemon, run: Run, path: str) -> None:
    """What was left out is told beside what was done; what is held back is not done."""
    daemon.replies["CreateList"] = {"outcome": {**LIST_OUTCOME, "warnings": ["1 malformed line"]}}
    assert run("ipsecctl", "list", "create", "drop", "--from", path).err == (
        "warning: 1 malformed line\n"
    )
    daemon.replies["CreateList"] = Refused("list 'drop' stays as it was: why", "--accept")
    ran = run("ipsecctl", "list", "create", "drop", "--from", path)
    assert (ran.code, ran.out) == (1, "")
    assert "stays as it was: why" in ran.err


def test_entries_are_shown_with_what_they_have_left(daemon: FakeDaemon, run: Run) -> None:
    """In a form that can be read again; JSON has all of it."""
    out = run("ipsecctl", "list", "show", "bans").out.splitlines()
    assert out[0].startswith("192.0.2.7 # for ")
    assert out[1:] == ["2001:db8::7"]
    said = json.loads(run("ipsecctl", "list", "show", "bans", "--json").out)
    assert said["entries"] == ["192.0.2.7", "2001:db8::7"]
    assert said["ending"] == [{"entry": "192.0.2.7", "ends": 4_000_000_000.0}]
    daemon.replies["GetList"] = {"list": LIST, "entries": [], "ending": []}
    ran = run("ipsecctl", "list", "show", "bans", "192.0.2.9")
    assert (ran.code, ran.out) == (1, "192.0.2.9 is in no entry of list 'bans'\n")
    ran = run("ipsecctl", "list", "show", "bans")
    assert (ran.code, ran.out) == (0, "# list 'bans' is empty\n")


def test_what_entries_have_matched_is_shown(daemon: FakeDaemon, run: Run) -> None:
    """The most packets first, then those that have matched nothing."""
    entries = ["192.0.2.7", "192.0.2.8", "2001:db8::7"]
    counted = [{"entry": "192.0.2.8", "packets": 1200, "bytes": 9}]
    counters = {"since": "2026-11-30T19:12:47Z", "entries": counted}
    daemon.replies["GetList"] = {
        "list": {**LIST, "counted": True},
        "entries": entries,
        "ending": [],
        "counters": counters,
    }
    ran = run("ipsecctl", "list", "show", "bans", "--counters")
    assert [line.split() for line in ran.out.splitlines()] == [
        ["PACKETS", "BYTES", "ENTRY"],
        ["1,200", "9", "192.0.2.8"],
        ["0", "0", "192.0.2.7"],
        ["0", "0", "2001:db8::7"],
        ["#", "counted", "since", "2026-11-30", "19:12", "UTC"],
    ]
    assert daemon.calls == [("GetList", {"name": "bans", "address": None, "counters": True})]
    said = json.loads(run("ipsecctl", "list", "show", "bans", "--counters", "--json").out)
    assert said["counters"] == counters
    assert "name it" in run("ipsecctl", "list", "show", "--counters").err


def test_counting_is_on_or_off(daemon: FakeDaemon, run: Run) -> None:
    """Anything else is a mistake, and nobody is asked."""
    for word in ("on", "off"):
        assert run("ipsecctl", "list", "count", "bans", word).code == 0
        assert daemon.calls.pop() == ("CountList", {"name": "bans", "counted": word == "on"})
    ran = run("ipsecctl", "list", "count", "bans", "yes")
    assert (ran.code, daemon.calls) == (2, [])
    assert "'yes' is neither 'on' nor 'off'" in ran.err
    assert run("ipsecctl", "list", "create", "drop", "--count").code == 0
    assert daemon.calls[0][1]["counted"] is True


def test_all_lists_are_shown(daemon: FakeDaemon, run: Run) -> None:
    """With where each is from, what names it, and what is wrong with it."""
    ran = run("ipsecctl", "list", "show")
    assert ran.out.splitlines()[1].split() == [
        *("bans", "2", "1", "/etc/ipsecd/lists/bans", "Block", "web"),
    ]
    wrong = {**LIST, "problems": ["it is torn\n  hint: mend it"], "path": None, "rules": []}
    daemon.replies["ListLists"] = {"lists": [wrong]}
    ran = run("ipsecctl", "show", "lists")
    assert ran.err == "warning: bans: it is torn; hint: mend it\n"
    of_domain = {**LIST, "path": None, "added": 0, "ending": 0, "ends": None, "domain": True}
    daemon.replies["ListLists"] = {"lists": [of_domain]}
    row = run("ipsecctl", "list", "show").out.splitlines()[1]
    assert row.split() == ["bans", "2", "the", "domain", "Block", "web"]
    daemon.replies["ListLists"] = {"lists": []}
    assert "there is no list" in run("ipsecctl", "list", "show").out


def test_a_file_is_checked_without_a_daemon(
    run: Run, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its form, its numbers, its malformed lines, and what would be held back."""
    ran = run("ipsecctl", "list", "check", path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        f"{path}: 3 entries · form plain · 1 repeated · 1 with address bits beyond the prefix "
        "length\n"
    )
    ran = run("ipsecctl", "list", "check", path, "--me", "192.0.2.1", "--json")
    assert ran.code == 1
    said = json.loads(ran.out)
    assert said["held"] == ["192.0.2.0/24 covers 192.0.2.1 (given by --me)"]
    assert (said["entries"], said["repeated"], said["cleared"]) == (3, 1, 1)
    bad = tmp_path / "bad"
    bad.write_bytes(b"192.0.2.7\n\x1b[31mfoo\n127.0.0.1\n")
    ran = run("ipsecctl", "list", "check", str(bad))
    assert ran.code == 1
    assert "  line 2: '\\x1b[31mfoo' is neither" in ran.out
    assert ran.err == "warning: it would be held back: 127.0.0.1 covers 127.0.0.1 (loopback)\n"
    bad.write_bytes(b"foo\n")
    ran = run("ipsecctl", "list", "check", str(bad))
    assert (ran.code, ran.out) == (1, "")
    assert "bad:1: " in ran.err
    assert json.loads(run("ipsecctl", "list", "check", str(bad), "--json").out)["valid"] is False
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ip\n192.0.2.7\n")))
    ran = run("ipsecctl", "list", "check", "-", "--format", "csv:ip")
    assert (ran.code, ran.out) == (0, "<stdin>: 1 entry · form csv:ip\n")
    assert run("ipsecctl", "list", "check", path, "--me", "10.0.0.0/8").code == 1


def test_a_verb_without_an_action_says_which_there_are(run: Run) -> None:
    """Nothing is done by ``list`` alone."""
    ran = run("ipsecctl", "list")
    assert ran.code == 2
    assert "create, update, replace, add, remove, show, count, delete" in ran.err
