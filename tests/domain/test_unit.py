"""The fetcher's unit is as tight as it is said to be, and its manual says what it takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecd_domain.__main__ import main

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd/ipsecd-domain.service"


def need(command: str) -> None:
    if shutil.which(command) is None:
        assert not os.environ.get("CI"), f"needs {command}"
        pytest.skip(f"needs {command}")


def test_its_exposure_is_at_most_1_2() -> None:
    """Without a running systemd; that of a booted machine is tested there."""
    need("systemd-analyze")
    words = ("systemd-analyze", "security", "--offline=yes", "--threshold=12", "--no-pager", UNIT)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_waits_for_it_and_it_waits_for_no_network() -> None:
    """A host whose source is unreachable boots as fast as any other."""
    text = UNIT.read_text()
    assert "Type=simple" in text
    assert "Before=" not in text
    assert "network-online" not in text


def test_it_is_installed_and_runs_what_is_installed(tmp_path: Path) -> None:
    """The unit, its user, and its manual."""
    words = ("make", "-s", "install-data", f"DESTDIR={tmp_path}", "PREFIX=/opt/x")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    unit = (tmp_path / "opt/x/lib/systemd/system/ipsecd-domain.service").read_text()
    assert "ExecStart=/opt/x/sbin/ipsecd-domain\n" in unit
    assert "u ipsecd-domain " in (tmp_path / "opt/x/lib/sysusers.d/ipsecd.conf").read_text()
    assert (tmp_path / "opt/x/share/man/man8/ipsecd-domain.8").exists()


def test_the_user_of_the_unit_can_be_made(tmp_path: Path) -> None:
    """systemd-sysusers understands the line."""
    need("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    conf = ROOT / "systemd/ipsecd.sysusers"
    subprocess.run(
        ("systemd-sysusers", f"--root={tmp_path}", conf), check=True, capture_output=True
    )
    assert "ipsecd-domain:x:" in (tmp_path / "etc/passwd").read_text()


def test_every_option_is_in_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual has what the program takes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == {"--socket", "--once", "--version"}
    manual = (ROOT / "docs/man/ipsecd-domain.8").read_text().replace("\\-", "-")
    assert all(option in manual for option in options)


def test_without_a_daemon_one_look_says_so(tmp_path: Path) -> None:
    """With the exit status for it, and what to do."""
    words = (sys.executable, "-m", "ipsecd_domain", "--once", "--socket", tmp_path / "absent")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "systemctl start ipsecd" in done.stderr
