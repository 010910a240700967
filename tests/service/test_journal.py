"""Tests of log lines: one event a line, whatever a client wrote into it."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.log import MAX_VALUE, LineFormatter, format_event, record, record_bug, set_up


def test_plain_words_stand_as_they_are() -> None:
    """Numbers, words and filters need no quotes; what is None is left out."""
    line = format_event("call", {"uid": 0, "method": "Stop", "object": "*=0:80:TCP", "x": None})
    assert line == "call uid=0 method=Stop object=*=0:80:TCP"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("two words", '"two words"'),
        ("", '""'),
        ('say "hi"\\', '"say \\"hi\\"\\\\"'),
        ("a\nb\tc\r", '"a\\nb\\tc\\r"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("\u202eevil", '"\\u202eevil"'),
        ("\u2028next", '"\\u2028next"'),
        ("\udce9", '"\\udce9"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("Größe 1", '"Größe 1"'),
        (True, "yes"),
        (0.5, "0.5"),
    ],
)
def test_values_are_quoted_and_escaped(value: object, shown: str) -> None:
    """What could end a line, hide text or drive a terminal is written as an escape."""
    assert format_event("e", {"k": value}) == f"e k={shown}"


@given(st.text())
def test_a_value_never_breaks_the_line(value: str) -> None:
    """Any text gives one printable line."""
    line = format_event("e", {"k": value})
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_long_values_are_cut_in_the_middle() -> None:
    """A value has a greatest length, and its end is kept: a traceback's says most."""
    line = format_event("e", {"k": "a" * MAX_VALUE + "end"})
    assert len(line) < MAX_VALUE + 20
    assert line.endswith('end"')


def formatted(level: int, *, priorities: bool) -> str:
    entry = logging.LogRecord("ipsecd", level, "", 0, "ready", None, None)
    entry.fields = {"pid": 1}
    return LineFormatter(priorities=priorities).format(entry)


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
        (logging.DEBUG, 7),
    ],
)
def test_priorities_are_those_of_syslog(level: int, priority: int) -> None:
    """The journal reads the priority at the beginning; a terminal does not show one."""
    assert formatted(level, priorities=True) == f"<{priority}>ready pid=1"
    assert formatted(level, priorities=False) == "ready pid=1"


def test_libraries_are_logged_in_one_line_too() -> None:
    """A message of another logger, with its traceback, is one event."""
    try:
        int("broken")
    except ValueError:
        entry = logging.LogRecord("asyncio", 40, "", 0, "oh %s", ("no",), sys.exc_info())
    line = LineFormatter(priorities=False).format(entry)
    assert line.startswith('log logger=asyncio message="oh no\\nTraceback')
    assert "ValueError: invalid literal" in line


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), text)


@pytest.mark.parametrize("stream", [None, FullDisk()], ids=["closed", "full"])
def test_a_log_that_cannot_be_written_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    """A line is lost with the disk it was for; the daemon goes on, and so does its log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        set_up()
        monkeypatch.setattr(sys, "stderr", stream)
        record(logging.INFO, "call", method="Stop")
        monkeypatch.setattr(sys, "stderr", told := io.StringIO())
        record(logging.INFO, "call", method="Start", object="\x1b[2J\x9b\u202e")
        logging.getLogger("lib").error("oh \x1b %s", "\x9b")
    finally:
        logging.basicConfig(handlers=handlers, level=level, force=True)
    assert told.getvalue().splitlines()[0].startswith("call method=Start")
    assert len(told.getvalue().splitlines()) == 2
    assert told.getvalue().replace("\n", "").isprintable()


def test_events_reach_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the journal listening each line begins with its priority."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        set_up()
        record(logging.INFO, "call", method="Stop")
        record(logging.DEBUG, "call", method="Status")
        record_bug("bug", ValueError("x"), method="Stop")
    finally:
        logging.basicConfig(handlers=handlers, level=level, force=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "<6>call method=Stop"
    assert lines[1].startswith("<3>bug method=Stop error=\"ValueError('x')\" traceback=")
    assert len(lines) == 2
