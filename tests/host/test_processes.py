"""Tests of what the kernel tells of another process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipsecd.host import processes
from ipsecd.host.processes import command_of, login_uid_of


def test_a_process_has_a_name() -> None:
    """That of this one, as the kernel has it."""
    assert command_of(os.getpid()) == Path("/proc/self/comm").read_text().strip()


@pytest.mark.parametrize("pid", [0, -1, 1 << 30])
def test_nothing_is_known_of_a_process_that_cannot_be_seen(pid: int) -> None:
    """As where the daemon is confined."""
    assert (command_of(pid), login_uid_of(pid)) == ("", None)


@pytest.mark.parametrize(
    ("told", "uid"),
    [("1000", 1000), ("0", 0), ("4294967295", None), ("", None), ("-1", None), ("\u00b2", None)],
)
def test_who_has_logged_in_is_a_number(
    monkeypatch: pytest.MonkeyPatch, told: str, uid: int | None
) -> None:
    """The greatest is that of nobody."""
    monkeypatch.setattr(processes, "_read", lambda *_: told)
    assert login_uid_of(1) == uid
