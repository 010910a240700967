"""Tests of editing a policy at a terminal, and of taking an edit back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import Refused, WouldCut
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import DOCUMENT, FakeDaemon
from tests.terminal import at_a_terminal

FILE: dict[str, Any] = {
    "policy": "Web",
    "path": "/etc/ipsecd/policies/web.yaml",
    "text": DOCUMENT,
    "digest": "ab" * 32,
    "error": None,
}


@pytest.fixture
def edited(daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """A daemon whose policy is edited by a program that adds a comment."""
    daemon.replies["GetPolicyFile"] = FILE
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("VISUAL", raising=False)
    script = tmp_path / "editor.py"
    script.write_text("import sys; open(sys.argv[-1], 'a').write('# mine\\n')")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    return daemon


def edit(*options: str, typed: str = "") -> tuple[int, str]:
    return at_a_terminal(("policy", "edit", "Web", *options), os.environ, typed)


def copies(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("ipsecctl-*/*"))


def test_an_edit_is_one_call_with_its_base(edited: FakeDaemon, tmp_path: Path) -> None:
    """With the options of all changes, and nothing is left over."""
    code, _ = edit("--message", "why", "--force")
    assert code == 0
    given = {"name": "Web", "digest": FILE["digest"], "source": FILE["path"], "document": None}
    assert edited.calls == [("GetPolicyFile", {"name": "Web"}), ("EditPolicy", given)]
    assert edited.document == DOCUMENT.encode() + b"# mine\n"
    (change,) = edited.changes
    assert change is not None
    assert (change["message"], change["force"]) == ("why", True)
    assert not copies(tmp_path)


def test_visual_comes_before_editor(edited: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a command with arguments; and no edit is no change."""
    monkeypatch.setenv("VISUAL", "/bin/true --with 'an argument'")
    code, seen = edit()
    assert code == 0
    assert "nothing has changed" in seen
    assert [method for method, _ in edited.calls] == ["GetPolicyFile"]


def test_no_edit_of_a_broken_file_leaves_it_broken(
    edited: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is said, and the exit code tells."""
    edited.replies["GetPolicyFile"] = {**FILE, "error": "it is broken\n  hint: mend it"}
    monkeypatch.setenv("EDITOR", "true")
    code, seen = edit()
    assert code == 1
    assert "it is broken" in seen


@pytest.mark.parametrize(
    ("command", "says"),
    [("/no/such", "cannot be run"), ("false", "ended with 1"), ("'", "is no command")],
)
def test_an_editor_that_fails_changes_nothing(
    edited: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, says: str
) -> None:
    """And leaves nothing over."""
    monkeypatch.setenv("EDITOR", command)
    code, seen = edit()
    assert code in (1, 2)
    assert says in seen
    assert "EditPolicy" not in dict(edited.calls)
    assert not copies(tmp_path)


def test_without_an_editor_that_is_said(
    edited: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables and usual names are looked at."""
    monkeypatch.delenv("EDITOR")
    monkeypatch.setenv("PATH", "/nowhere")
    code, seen = edit()
    assert code == 1
    assert "there is no editor" in seen
    assert edited.calls == []


def test_all_errors_are_told_with_their_lines(
    edited: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found before the daemon is asked."""
    script = tmp_path / "bad.py"
    bad = DOCUMENT.replace("block", "blok").replace("80:TCP", "80:TPC")
    script.write_text(f"import sys; open(sys.argv[-1], 'w').write({bad!r})")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    code, seen = edit(typed="q\n")
    assert code == 1
    assert "web.yaml:4" in seen
    assert "web.yaml:5" in seen
    assert "discarded" in seen
    assert "EditPolicy" not in dict(edited.calls)
    assert not copies(tmp_path)


@pytest.mark.parametrize(
    "error", [Refused("not now", "later"), WouldCut("it would cut", "force it", ())]
)
def test_what_the_daemon_refuses_is_kept(
    edited: FakeDaemon, tmp_path: Path, error: Refused
) -> None:
    """It is a good document; one may try again, and what was written is not lost."""
    edited.replies["EditPolicy"] = error
    code, seen = edit(typed="e\nq\n")
    assert code == 1
    assert [method for method, _ in edited.calls].count("EditPolicy") == 2
    (kept,) = copies(tmp_path)
    assert str(kept) in seen
    assert kept.read_text() == DOCUMENT + "# mine\n# mine\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_a_daemon_that_goes_meanwhile_takes_no_work_with_it(
    edited: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is kept, and named."""
    script = tmp_path / "gone.py"
    script.write_text(
        f"import os, sys; os.unlink({str(edited.path)!r}); open(sys.argv[-1], 'a').write('# x')"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")
    code, seen = edit()
    assert code == 3
    (kept,) = copies(tmp_path)
    assert str(kept) in seen


def test_the_end_of_input_is_no_yes(edited: FakeDaemon, tmp_path: Path) -> None:
    """Control-D discards, as q does."""
    edited.replies["EditPolicy"] = Refused("not now")
    code, seen = edit(typed="\x04")
    assert code == 1
    assert seen.count("what now") == 1
    assert len(copies(tmp_path)) == 1


def test_without_a_terminal_it_fails_at_once(edited: FakeDaemon, run: Run) -> None:
    """And says what to do in a script."""
    ran = run("ipsecctl", "policy", "edit", "My Web")
    assert (ran.code, edited.calls) == (2, [])
    assert "needs a terminal" in ran.err
    assert "policy export 'My Web'" in ran.err


@pytest.mark.parametrize(("words", "state"), [((), None), (("@2",), 2), (("3",), 3)])
def test_a_restore_is_one_call(
    daemon: FakeDaemon, run: Run, words: tuple[str, ...], state: int | None
) -> None:
    """With a state, or what was there last."""
    assert run("ipsecctl", "policy", "restore", "Web", *words).code == 0
    assert daemon.calls == [("RestorePolicy", {"name": "Web", "state": state})]
    assert run("ipsecctl", "policy", "restore", "Web", "x").code == 2
