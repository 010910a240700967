"""Real scripts, each carried out as a whole, with the verdicts that their authors meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ipsecctl.options import parse_options
from ipsecctl.running.verb import run
from ipsecctl.verbs import VERBS
from tests.ctl.direct_daemon import DirectDaemon, on_a_host

SCRIPTS = Path(__file__).parents[1] / "data" / "scripts"
NETSH = SCRIPTS / "netsh"
WANTED = yaml.safe_load((NETSH / "wanted.yaml").read_text())
REFUSED = {
    "3": ("names another computer",),
    "20": ("does not encrypt",),
    "27": ("a blank follows '-'",),
    "28": ("backup", "does not encrypt", "restore"),
    "31": ("ipsecmon",),
    "09-hids-response.cmd": ("name= is missing",),
    "27-psk.bat": ("action=negotiate asks for encryption",),
    "28-forest-trust.txt": ("action=negotiate asks for encryption",),
    "36-import.bat": ("there is no policy 'ipsec1'",),
}
"""Scripts of which lines are refused, and what is said of these."""


def groups() -> list[list[dict[str, Any]]]:
    """Scripts, each with those that go on where it ends."""
    found: list[list[dict[str, Any]]] = []
    for script in yaml.safe_load((SCRIPTS / "ipseccmd.yaml").read_text()):
        if str(script["script"]).endswith("b"):
            found[-1].append(script)
        else:
            found.append([script])
    return found


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectDaemon:
    on_a_host(monkeypatch)
    # Two of them export policies, to where they stand.
    monkeypatch.chdir(tmp_path)
    return DirectDaemon(tmp_path)


def carried_out(daemon: DirectDaemon, path: Path, *options: str) -> int:
    return run(daemon, parse_options(VERBS["run"], [str(path), *options]))


@pytest.mark.parametrize("group", groups(), ids=lambda group: str(group[0]["script"]))
def test_scripts_of_ipseccmd(
    daemon: DirectDaemon,
    group: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is refused refuses the file; without those lines it does what was meant."""
    for script in group:
        path = tmp_path / f"{script['script']}.cmd"
        path.write_bytes("\r\n".join(["@echo off", *script["lines"], ""]).encode("utf-16"))
        check(daemon, path, str(script["script"]), script.get("wanted", []), capsys)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in NETSH.iterdir() if path.suffix != ".yaml"),
    ids=lambda path: str(path.name),
)
def test_scripts_of_netsh(
    daemon: DirectDaemon, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same; a clean-up at the end of two of them is taken off."""
    name = path.name
    lines = path.read_text().splitlines()
    if name == "23-temp.nsh":
        path = tmp_path / "23.cmd"
        path.write_text(f"netsh -f {NETSH / name}\n")
    elif lines[-1].startswith("netsh ipsec static delete policy") and name in WANTED:
        path = tmp_path / name
        path.write_text("\r\n".join(lines[:-1]))
    check(daemon, path, name, WANTED.get(name, []), capsys)


def check(
    daemon: DirectDaemon,
    path: Path,
    name: str,
    wanted: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name in REFUSED:
        before = daemon.state()
        assert carried_out(daemon, path) == 1
        out, err = capsys.readouterr()
        assert "so nothing has changed" in err
        for said in REFUSED[name]:
            assert said in out
        assert daemon.state() == before
        assert carried_out(daemon, path, "--skip-refused") == 0
    else:
        assert carried_out(daemon, path) == 0, capsys.readouterr()
    for packet, verdict in wanted:
        assert daemon.decides(packet) == verdict, (packet, capsys.readouterr().out)
