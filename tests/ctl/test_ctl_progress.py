"""What a terminal shows while a call is being carried out, and that nothing else sees it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from ipsecd.errors import Refused
from tests.ctl.fake_daemon import DOCUMENT, FakeDaemon

ERASE = "\x1b[K"
DONE = "the change is made · assigned: 'Block UDP 1434 Filter'\n"
PROGRESS = [
    {"phase": "compiling", "done": 0, "total": 0},
    {"phase": "loading into the kernel", "done": 120_000, "total": 200_000},
]
SHOWN = f"\rcompiling ...{ERASE}\rloading into the kernel: 120,000 of 200,000{ERASE}\r{ERASE}"
CALLS = {"apply": ["apply", "FILE", "--assign"], "reload": ["reload"]}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(DOCUMENT)
    return path


class OnTerminal:
    """One command whose standard error is a terminal, and its output too if it is to be `both`."""

    def __init__(
        self,
        argv: list[str],
        *,
        columns: int = 80,
        both: bool = False,
        terminal: str = "xterm",
    ) -> None:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        done = subprocess.run(
            [sys.executable, "-m", "ipsecctl", *argv],
            stdin=subprocess.DEVNULL,
            stdout=theirs if both else subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": terminal},
            check=False,
            timeout=60,
        )
        os.close(theirs)
        self.code = done.returncode
        self.out = (done.stdout or b"").decode()
        self.shown = ""
        try:
            while piece := os.read(ours, 65536):
                self.shown += piece.decode()
        except OSError:
            # EIO is how a terminal tells that nobody has its other end.
            pass
        os.close(ours)


def words(call: str, document: Path) -> list[str]:
    return [str(document) if word == "FILE" else word for word in CALLS[call]]


@pytest.mark.parametrize("call", CALLS)
def test_one_line_shows_how_far_it_is(daemon: FakeDaemon, document: Path, call: str) -> None:
    """It is written over and taken back at the end; what is printed has none of it."""
    daemon.progress = PROGRESS
    ran = OnTerminal(words(call, document))
    assert ran.code == 0
    assert daemon.more == [True]
    assert ran.shown == SHOWN
    assert ran.out == DONE


def test_the_summary_stands_where_the_line_was(daemon: FakeDaemon, document: Path) -> None:
    """On one terminal for both the line is gone before anything else is printed."""
    daemon.progress = PROGRESS
    ran = OnTerminal(words("apply", document), both=True)
    assert ran.shown == SHOWN + DONE.replace("\n", "\r\n")


def test_a_refusal_stands_where_the_line_was(daemon: FakeDaemon, document: Path) -> None:
    """So does what is said of a change that failed on the way."""
    daemon.progress = PROGRESS
    daemon.replies["ApplyPolicy"] = Refused("there is no room", "make some")
    ran = OnTerminal(words("apply", document))
    assert ran.code == 1
    assert ran.shown.startswith(f"{SHOWN}ipsecctl: there is no room\r\n")
    assert ran.out == ""


@pytest.mark.parametrize("columns", [20, 0])
def test_a_line_never_wraps(daemon: FakeDaemon, columns: int, document: Path) -> None:
    """It is cut at the width of the terminal, or at 80 where that is not known."""
    daemon.progress = [{"phase": "x" * 200, "done": 0, "total": 0}]
    ran = OnTerminal(words("apply", document), columns=columns)
    assert ran.shown == f"\r{'x' * ((columns or 80) - 1)}{ERASE}\r{ERASE}"


def test_what_the_daemon_calls_a_phase_drives_no_terminal(
    daemon: FakeDaemon, document: Path
) -> None:
    """Escapes in it are shown as such."""
    daemon.progress = [{"phase": "\x1b]0;owned\x07\nFORGED", "done": 1, "total": 2}]
    ran = OnTerminal(words("apply", document))
    assert "FORGED: 1 of 2" in ran.shown
    assert ran.shown.replace(ERASE, "").replace("\r", "").isprintable()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("option", [["--json"], []])
def test_programs_see_nothing_of_it(
    daemon: FakeDaemon, document: Path, call: str, option: list[str]
) -> None:
    """With --json, on a terminal that cannot, and without one, it is not even asked for."""
    daemon.progress = PROGRESS
    argv = [*words(call, document), *option]
    command = [sys.executable, "-m", "ipsecctl", *argv]
    piped = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert option or piped.stdout == DONE
    ran = OnTerminal(argv, terminal="xterm" if option else "dumb")
    assert (ran.code, ran.shown, ran.out) == (0, "", piped.stdout)
    assert daemon.more == [False, False]


@pytest.mark.parametrize("progress", [None, [], "x", {}, {"phase": 5, "done": "x", "total": None}])
def test_progress_that_is_none_harms_nothing(
    daemon: FakeDaemon, document: Path, progress: Any
) -> None:
    """Whatever a daemon of another version tells on the way, the change has its outcome."""
    daemon.progress = [progress]
    ran = OnTerminal(words("apply", document))
    assert (ran.code, ran.out) == (0, DONE)


def test_a_closed_standard_error_is_no_terminal(daemon: FakeDaemon, document: Path) -> None:
    """Nor is it an error."""
    daemon.progress = PROGRESS
    argv = " ".join(words("apply", document))
    command = f"{sys.executable} -m ipsecctl {argv} 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, DONE)
    assert daemon.more == [False]
