"""The units are as tight as they are said to be, and the fetcher's manual says what it takes."""

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
EXPOSURES = {
    "ipsecd.service": 15,
    "ipsecd-boot.service": 15,
    "ipsecd-domain.service": 12,
    "ipsecd-metrics.service": 12,
    "ipsecd-web.service": 5,
}
"""The most that systemd may say about each unit, in tenths."""


def need(command: str) -> None:
    if shutil.which(command) is None:
        assert not os.environ.get("CI"), f"needs {command}"
        pytest.skip(f"needs {command}")


@pytest.mark.parametrize(("name", "most"), EXPOSURES.items())
def test_the_exposure_of_each_unit_is_low(name: str, most: int) -> None:
    """Without a running systemd; that of a booted machine is tested there."""
    need("systemd-analyze")
    options = ("--offline=yes", f"--threshold={most}", "--no-pager")
    words = ("systemd-analyze", "security", *options, ROOT / "systemd" / name)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_waits_for_it_and_it_waits_for_no_network() -> None:
    """A host whose source is unreachable boots as fast as any other."""
    text = UNIT.read_text()
    assert "Type=simple" in text
    assert "Before=" not in text
    assert "network-online" not in text


def test_the_daemon_has_no_internet_sockets_and_wants_who_has() -> None:
    """It does not wait for the fetcher, which comes long after it at boot."""
    for name in ("ipsecd.service", "ipsecd-boot.service"):
        text = (ROOT / "systemd" / name).read_text()
        assert "\nRestrictAddressFamilies=AF_UNIX AF_NETLINK\n" in text
        assert "\nIPAddressDeny=any\n" in text
    text = (ROOT / "systemd/ipsecd.service").read_text()
    lines = [line for line in text.splitlines() if UNIT.name in line]
    assert lines == [f"Wants=network-pre.target {UNIT.name}"]
    assert "[Install]" not in UNIT.read_text()


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
