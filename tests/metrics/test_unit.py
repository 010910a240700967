"""The exporter as it is shipped: its unit, its files, its words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecd_metrics.__main__ import main

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd/ipsecd-metrics.service"


def test_nothing_waits_for_it() -> None:
    """It has no rights to anything but to read, and nobody's boot is slower for it."""
    text = UNIT.read_text()
    assert "Before=" not in text
    assert "[Install]" not in text
    for line in ("DynamicUser=yes", "Group=ipsec-view", "CapabilityBoundingSet=", "Type=simple"):
        assert f"\n{line}\n" in text
    assert "Wants=ipsecd-metrics.service\n" in (ROOT / "systemd/ipsecd.service").read_text()


def test_it_is_installed_with_the_alerts_and_the_dashboard(tmp_path: Path) -> None:
    """The unit runs what is installed."""
    words = ("make", "-s", "install-data", f"DESTDIR={tmp_path}", "PREFIX=/opt/x")
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    unit = (tmp_path / "opt/x/lib/systemd/system/ipsecd-metrics.service").read_text()
    assert "ExecStart=/opt/x/sbin/ipsecd-metrics\n" in unit
    assert (tmp_path / "opt/x/share/man/man8/ipsecd-metrics.8").exists()
    shipped = {path.name for path in (tmp_path / "opt/x/share/ipsecd/prometheus").iterdir()}
    assert shipped == {"ipsecd.rules.yml", "ipsecd.dashboard.json"}


def test_every_option_and_metric_is_in_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual has what the program takes, and what it tells."""
    with pytest.raises(SystemExit):
        main(["--help"])
    manual = (ROOT / "docs/man/ipsecd-metrics.8").read_text().replace("\\-", "-")
    for option in re.findall(r"--[a-z]+", capsys.readouterr().out):
        assert option in manual
    source = (ROOT / "daemon/ipsecd_metrics/families.py").read_text()
    for name in re.findall(r'_gauge\(\s*"(\w+)"', source):
        assert f"ipsecd_{name}" in manual
    for name in re.findall(r'_counter\(\s*"(\w+)"', source):
        assert f"ipsecd_{name}_total" in manual


def test_without_a_daemon_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What happened, and what to do."""
    assert main(["--socket", str(tmp_path / "none")]) == 3
    said = capsys.readouterr().err
    assert "cannot be asked at" in said
    assert "systemctl status ipsecd" in said


def test_where_it_cannot_listen_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Words that a terminal would obey are shown, and not obeyed."""
    assert main(["--listen", "/nowhere/\x1b[2J"]) == 1
    said = capsys.readouterr().err
    assert "metrics cannot be had at" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("listen", ["foo", "127.0.0.1:x", "127.0.0.1:99999"])
def test_what_is_no_place_is_refused_in_plain_words(
    listen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what could be written, and not in the words of Python."""
    assert main(["--listen", listen]) == 1
    said = capsys.readouterr().err
    assert "that is no place to listen at\n  hint: write 127.0.0.1:9633" in said


def test_without_the_client_library_it_says_what_to_install(tmp_path: Path) -> None:
    """It may be missing: the package recommends it, and most hosts need no metrics."""
    (tmp_path / "prometheus_client.py").write_text("raise ModuleNotFoundError\n")
    done = subprocess.run(
        [sys.executable, "-m", "ipsecd_metrics", "--listen", "127.0.0.1:0"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "apt install python3-prometheus-client" in done.stderr
