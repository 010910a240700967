"""Tests of the daemon's command line, with an engine that only notes how it was made."""

from __future__ import annotations

import importlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from ipsecd.config import Boot, Config, Directories
from ipsecd.errors import InvalidInput
from ipsecd.service.listener import RuntimeLock


class NotedEngine:
    created: ClassVar[list[tuple[Config, Directories]]] = []
    problems: ClassVar[tuple[str, ...]] = ()
    booted: ClassVar[list[object]] = []

    def __init__(self, config: Config, directories: Directories, *_: object, **__: object) -> None:
        self.created.append((config, directories))

    def check(self) -> tuple[str, ...]:
        return self.problems

    def boot(self, config_error: InvalidInput | None) -> bool:
        self.booted.append(config_error)
        return config_error is None

    def close(self) -> None:
        self.booted.append("closed")


Main = Callable[[list[str]], int]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Main]:
    """The daemon's entry point, around the noted engine."""
    stand_in: Any = ModuleType("ipsecd.engine")
    stand_in.Engine = NotedEngine
    # Its other modules are what they are.
    stand_in.__path__ = importlib.import_module("ipsecd.engine").__path__
    monkeypatch.setitem(sys.modules, "ipsecd.engine", stand_in)
    monkeypatch.delitem(sys.modules, "ipsecd.__main__", raising=False)
    monkeypatch.setattr(NotedEngine, "created", [])
    monkeypatch.setattr("ipsecd.service.namespace_lock.NAME", f"\0ipsecd test {uuid.uuid4()}")
    monkeypatch.setattr("ipsecd.config.DEFAULT_CONFIG", Path("/nonexistent/ipsecd.yaml"))
    yield importlib.import_module("ipsecd.__main__").main
    sys.modules.pop("ipsecd.__main__", None)


def test_a_check_changes_nothing(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    """With --check the engine is made and asked, and never started."""
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == "configuration and policies are valid\n"
    assert NotedEngine.created == [(Config(), Directories())]


def test_a_check_that_finds_something_fails(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every problem is a line, and the exit code is 1."""
    monkeypatch.setattr(NotedEngine, "problems", ("a.yaml:1: bad", "b.yaml:2: worse"))
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "ipsecd: a.yaml:1: bad\nipsecd: b.yaml:2: worse\n"


EVIL = "\x1b]0;owned\x07\x9b2J\u202e\x7f\nFORGED"


def test_the_daemon_drives_no_terminal_either(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong arguments and what was found in files are escaped, and never echoed at length."""
    monkeypatch.setattr(NotedEngine, "problems", (f"a.yaml:1: {EVIL}",))
    assert main(["--check"]) == 1
    for options in (["--" + EVIL], ["--backend", EVIL], ["--config", "/nowhere/" + EVIL]):
        with suppress(SystemExit):
            main(options)
    error = capsys.readouterr().err
    assert error.replace("\n", "").isprintable()
    with pytest.raises(SystemExit):
        main(["x" * 14_000_000])
    assert len(capsys.readouterr().err) < 6000


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_check_whose_answer_is_lost_fails(tmp_path: Path, redirection: str) -> None:
    """Without a traceback, and with a line on standard error."""
    script = f'exec "$@" {redirection}'
    command = [sys.executable, "-m", "ipsecd", "--check", f"--config-dir={tmp_path}"]
    command += [f"--{name}-dir={tmp_path}" for name in ("state", "runtime")]
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ipsecd: the output could not be written: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_errors_need_no_standard_error(redirection: str) -> None:
    """The exit code is what it would be."""
    script = f'exec "$@" {redirection}'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "ipsecd"]
    for options, code in ((["--config", "/nowhere"], 1), (["--nonsense"], 2)):
        done = subprocess.run([*command, *options], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (code, b"")


def test_directories_and_backend_reach_the_engine(main: Main, tmp_path: Path) -> None:
    """Each option goes where it belongs, and --backend wins over the settings."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("backend: auto\ndefault-exempt: 2\n")
    options = [
        f"--{name}-dir={tmp_path / name}" for name in ("config", "state", "runtime", "bpffs")
    ]
    assert main(["--check", "--config", str(settings), "--backend", "nftables", *options]) == 0
    assert NotedEngine.created == [
        (
            Config(backend="nftables", default_exempt=2),
            Directories(*(tmp_path / name for name in ("config", "state", "runtime", "bpffs"))),
        )
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--config", "/nonexistent/x.yaml"], "there is no configuration file"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(
    main: Main, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors go to standard error with what to do, the exit code is 1, and no engine is made."""
    assert main(options) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert "\n  hint: " in error
    assert NotedEngine.created == []


def test_an_engine_that_cannot_check_says_why(
    main: Main, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the engine is told like any other."""

    def fail(_: NotedEngine) -> tuple[str, ...]:
        raise InvalidInput("broken", source="p.yaml", line=3)

    monkeypatch.setattr(NotedEngine, "check", fail)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "ipsecd: p.yaml:3: broken\n"


def test_boot_enforces_and_leaves(main: Main, tmp_path: Path) -> None:
    """With --boot the engine boots, and is let go of; settings that are wrong go to it."""
    NotedEngine.booted.clear()
    assert main(["--boot", "--runtime-dir", str(tmp_path)]) == 0
    assert NotedEngine.booted == [None, "closed"]
    wrong = tmp_path / "ipsecd.yaml"
    wrong.write_text("no-such-key: 1\nboot: block # until then\n")
    assert main(["--boot", "--runtime-dir", str(tmp_path), "--config", str(wrong)]) == 1
    assert "no-such-key" in str(NotedEngine.booted[2])
    assert NotedEngine.created[1][0] == Config(boot=Boot.BLOCK)


@pytest.mark.parametrize("option", ["--boot", "--withdraw"])
def test_beside_a_running_daemon_nothing_is_done(
    main: Main, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has the lock owns the kernel's state."""
    lock = RuntimeLock(tmp_path)
    try:
        assert main([option, "--runtime-dir", str(tmp_path)]) == 1
    finally:
        lock.close()
    assert "another ipsecd runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--boot", "--check"], ["--backend", "pf"], ["--conf", "x"], ["extra"]]
)
def test_wrong_usage_exits_with_2(main: Main, options: list[str]) -> None:
    """What is not an option is usage, abbreviations included."""
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2


def test_settings_lie_beside_the_policies(
    main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names another directory means the settings there, too."""
    (tmp_path / "ipsecd.yaml").write_text("backend: carrier pigeon\n")
    assert main(["--config-dir", str(tmp_path), "--check"]) == 1
    assert f"{tmp_path}/ipsecd.yaml:1" in capsys.readouterr().err
