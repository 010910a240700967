"""Tests of a line to a user's terminal, and of telling logins apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.host import terminals
from ipsecd.host.terminals import login_of, tell_terminal

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone may write to all terminals")


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A terminal: the descriptor that shows what is written to it, and its path."""
    shown, inside = os.openpty()
    yield shown, os.ttyname(inside)
    os.close(inside)
    os.close(shown)


def test_a_line_comes_to_the_terminal(terminal: tuple[int, str]) -> None:
    """On a line of its own, and what a terminal would obey is shown in its place."""
    shown, path = terminal
    assert tell_terminal(path, os.geteuid(), "it is \x1b[2J over \u00e4")
    assert os.read(shown, 1000) == b"\r\r\nit is \\u001b[2J over \\xe4\r\r\n"


@as_root
def test_another_users_terminal_is_left_alone(terminal: tuple[int, str]) -> None:
    """Whoever names the terminal of another user writes nothing there."""
    shown, path = terminal
    assert not tell_terminal(path, NOBODY, "boo")
    os.chown(path, NOBODY, -1)
    assert tell_terminal(path, NOBODY, "mine")
    assert b"boo" not in os.read(shown, 1000)


def test_only_a_terminal_is_written_to(tmp_path: Path, terminal: tuple[int, str]) -> None:
    """No file, device or pipe, nor what a link or a path of many parts leads to."""
    file = tmp_path / "file"
    file.touch()
    link = tmp_path / "link"
    link.symlink_to(terminal[1])
    odd = (
        "",
        "/dev/../" + str(file),
        str(file),
        str(link),
        "/dev/null",
        "/dev/absent",
        "/dev/a\0b",
    )
    assert not any(tell_terminal(path, os.geteuid(), "x") for path in odd)
    assert file.read_bytes() == b""


def test_logins_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number that the kernel gives each login, else by the session of processes."""
    monkeypatch.setattr(terminals, "PROCESSES", tmp_path)
    process = tmp_path / "17"
    process.mkdir()
    assert login_of(17) == ""
    (process / "stat").write_text("17 (a) b (c) S 1 17 42 0 -1")
    assert login_of(17) == "session 42"
    (process / "sessionid").write_text(str(terminals.UNSET))
    assert login_of(17) == "session 42"
    (process / "sessionid").write_text("5")
    assert login_of(17) == "login 5"


def test_a_process_of_another_session_is_another_login() -> None:
    """The kernel's own files say so, where it has no number for logins."""
    if not login_of(os.getpid()).startswith("session "):
        pytest.skip("this login has a number of its own")
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    ) as other:
        assert login_of(other.pid) != login_of(os.getpid()) == login_of(os.getppid())
