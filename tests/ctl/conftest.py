"""Owns the fixtures of the command line's tests: a fake daemon, and one command run against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from ipsecctl.__main__ import main
from tests.ctl.fake_daemon import FakeDaemon, served


class Ran(NamedTuple):
    """The exit code and the output of one command."""

    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *argv: str) -> Ran: ...


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with served(FakeDaemon, monkeypatch) as fake:
        yield fake


@pytest.fixture
def no_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IPSECD_SOCKET", str(tmp_path / "absent.sock"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*argv: str) -> Ran:
        code = main(list(argv))
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run_command
