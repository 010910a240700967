"""Tests of a line to a user's terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.host.terminals import tell_terminal

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


def test_what_is_no_terminal_of_theirs_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening some devices does something: a watchdog begins to count."""
    opened: list[str] = []
    monkeypatch.setattr(os, "open", lambda path, *_: opened.append(path))
    assert not tell_terminal("/dev/null", NOBODY, "x")
    assert not tell_terminal("/dev/pts", 0, "x")
    assert not opened
