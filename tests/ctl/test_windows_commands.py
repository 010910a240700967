"""The commands of Windows as they are installed: one program, and beside others' net and sc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecctl.verbs import DIALECTS
from tests.ctl.fake_daemon import FakeDaemon, served

ROOT = Path(__file__).parents[2]
NAMES = ("gpupdate", "ipseccmd", "ipsecpol", "net", "netdiag", "netsh", "sc", "secedit")
OTHERS = ("usr/bin/net", "usr/bin/sc")
"""What samba-common-bin and sc have."""


def make(target: str, directory: Path) -> None:
    settings = ["PREFIX=/usr", f"DESTDIR={directory}", f"INTERPRETER={sys.executable}"]
    words = ["make", "--silent", target, *settings]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)


def files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the package, below a directory."""
    directory = tmp_path_factory.mktemp("windows-commands")
    make("install-windows-commands", directory)
    return directory


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A directory with other programs called net and sc, which write down how they are started."""
    directory = tmp_path / "stand-ins"
    directory.mkdir()
    for name in ("net", "sc"):
        program = directory / name
        program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/{name}.log\nexit 7\n')
        program.chmod(0o755)
    return directory


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with served(FakeDaemon, monkeypatch) as fake:
        yield fake


def started(command: list[str], *path: Path) -> subprocess.CompletedProcess[str]:
    # Whatever else a shell starts is found behind them.
    directories = os.pathsep.join([*map(str, path), "/usr/bin", "/bin"])
    environment = {**os.environ, "PATH": directories}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_no_file_belongs_to_two_packages(package: Path, tmp_path: Path) -> None:
    """Neither ipsecd itself nor who else has programs called net and sc has a path of it."""
    make("install-data", tmp_path)
    make("install-programs", tmp_path)
    ours = files(package)
    assert "usr/bin/ipsecctl" in files(tmp_path)
    assert not ours & files(tmp_path)
    assert not ours & set(OTHERS)
    assert {f"usr/lib/ipsecd/windows/{Path(path).name}" for path in OTHERS} < ours


def test_there_is_one_program(package: Path) -> None:
    """Every name is a link to it, with and without .exe; all that ships is what people type."""
    (program,) = (package / "usr/lib/ipsecd").glob("windows-command")
    links = [path for path in package.rglob("*") if path.is_symlink() and "man" not in path.parts]
    assert {path.resolve() for path in links} == {program}
    names = {path.name for path in links}
    assert names >= {*NAMES, *(f"{name}.exe" for name in NAMES)} | {"IPSeccmd", "Ipsecpol.exe"}
    assert len(links) == len(names) <= 20
    assert not [path for path in links if path.readlink().is_absolute()]


def test_every_command_is_documented(package: Path) -> None:
    """Each name has a page."""
    pages = {path.name for path in (package / "usr/share/man/man1").iterdir()}
    assert pages >= {f"{path.name}.1" for path in (package / "usr/bin").iterdir()}
    assert all(path.resolve().is_file() for path in (package / "usr/share/man/man1").iterdir())


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("name", ["net", "sc", "net.exe"])
def test_what_is_of_others_is_handed_on_once(
    package: Path, stand_ins: Path, tmp_path: Path, name: str, *, ours_first: bool
) -> None:
    """Wherever ours is on the path, the other program is started once, with the words as typed."""
    directory = package / "usr/lib/ipsecd/windows"
    path = (directory, stand_ins) if ours_first else (stand_ins, directory)
    ran = started([str(directory / name), "ads", "info", "two words"], *path)
    assert ran.returncode == 7, ran.stderr
    log = tmp_path / f"{name.removesuffix('.exe')}.log"
    assert log.read_text() == "ads info two words\n"


def test_a_program_that_calls_ours_does_not_get_it_back(
    package: Path, stand_ins: Path, tmp_path: Path
) -> None:
    """Two that hand on to each other end, and say that nobody knows what was typed."""
    directory = package / "usr/lib/ipsecd/windows"
    (stand_ins / "net").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\nexec net "$@"\n')
    ran = started([str(directory / "net"), "view"], directory, stand_ins)
    assert (ran.returncode, (tmp_path / "log").read_text()) == (2, "view\n")
    assert "'net view' is not known here" in ran.stderr


def test_ours_knows_the_agent(package: Path, stand_ins: Path, daemon: FakeDaemon) -> None:
    """What is about the agent never reaches who else has the name."""
    directory = package / "usr/lib/ipsecd/windows"
    for words in (["net", "stop", "PolicyAgent"], ["sc.exe", "start", "policyagent"]):
        assert started(words, directory, stand_ins).returncode == 0
    assert [method for method, _ in daemon.calls] == ["Stop", "Start"]
    assert not list(stand_ins.parent.glob("*.log"))


def in_shell(package: Path, shell: str, text: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """What a shell does with a text once it has read what login shells read."""
    profile = package / "etc/profile.d/ipsecd-windows-commands.sh"
    here = package / "here.sh"
    here.write_text(profile.read_text().replace("/usr/lib/ipsecd", f"{package}/usr/lib/ipsecd"))
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}.get(shell, [])
    return started([shell, *options, "-c", f". {here}\n{text}"], *path)


@pytest.fixture
def shells(tmp_path: Path) -> Path:
    """A directory with an ipsecctl that says how it was started."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "ipsecctl").write_text('#!/bin/sh\necho "ipsecctl:" "$@"\nexit 5\n')
    (directory / "ipsecctl").chmod(0o755)
    return directory


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("typed", ["NETSH", "NetSh.Exe", "iPsEcCmD", "GPUpdate.EXE", "Net"])
def test_a_shell_takes_any_letter_case(package: Path, shells: Path, shell: str, typed: str) -> None:
    """Spellings that are no files are looked at once more, and become words of ipsecctl."""
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    ran = in_shell(package, shell, f"{typed} -x 'a b'", shells)
    assert (ran.returncode, ran.stdout) == (5, f"ipsecctl: {typed} -x a b\n"), ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_other_words_are_still_unknown(package: Path, shells: Path, shell: str) -> None:
    """They are told to whoever was told before, and to the person if there was nobody."""
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    ran = in_shell(package, shell, "netshell", shells)
    assert (ran.returncode, ran.stdout) == (127, "")
    assert "netshell: command not found" in ran.stderr
    handler = "command_not_found_handle" + ("r" if shell == "zsh" else "")
    before = f'{handler}() {{\n  echo before "$@"\n  return 3\n}}\n'
    profile = package / "here.sh"
    text = f"netshell x; echo $?\n. {profile}\nnetshell y; NETSH z"
    words = [shell, *({"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell])]
    ran = started([*words, "-c", f"{before}. {profile}\n{text}"], shells)
    assert ran.stdout == "before netshell x\n3\nbefore netshell y\nipsecctl: NETSH z\n"


def test_a_plain_shell_gets_the_path(package: Path, shells: Path) -> None:
    """What no shell but bash and zsh can do hurts no other; the directory is put in front once."""
    text = f'. {package}/here.sh\necho "$PATH"'
    ran = in_shell(package, "sh", text, shells)
    directory = f"{package}/usr/lib/ipsecd/windows"
    assert ran.stderr == ""
    assert ran.stdout.split(":")[0] == directory
    assert ran.stdout.count(directory) == 1


def test_shell_and_package_have_the_same_names() -> None:
    """The names in the file for shells are those that are installed, and ipsecctl knows them."""
    text = (ROOT / "ctl/windows-commands.sh").read_text()
    listed = set(re.findall(r"\b[a-z]+\b", " ".join(re.findall(r"(?m)^\t\t(.+)\) ;;$", text))))
    assert listed - {"exe"} == set(NAMES)
    assert set(NAMES) <= set(DIALECTS)
