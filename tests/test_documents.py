"""Manuals, completions and units name what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ipsecctl.usage import SYNOPSES
from ipsecd.__main__ import main

ROOT = Path(__file__).parents[1]
MAN = ROOT / "docs/man"
COMPLETIONS = ROOT / "ctl/completions"


def plain(page: Path) -> str:
    """The words of a manual page, without its markup."""
    return re.sub(r"\\f.|\\", "", page.read_text())


@pytest.mark.parametrize("verb", SYNOPSES)
def test_every_verb_is_in_the_manual_and_in_the_completions(verb: str) -> None:
    """Whoever adds a verb adds it everywhere."""
    assert re.search(rf"\b{verb}\b", plain(MAN / "ipsecctl.1"))
    for file in COMPLETIONS.iterdir():
        assert re.search(rf"(\\n|\b){verb}\b", file.read_text()), file


@pytest.mark.parametrize(
    "key",
    [
        *("backend", "boot", "default-exempt", "essentials", "limits", "on-stop", "unparsable"),
        "container-engines",
        *("connections-per-user", "connections", "frame-bytes", "dynamic-rules", "idle-timeout"),
    ],
)
def test_every_setting_is_in_the_manual(key: str) -> None:
    """The manual of ipsecd.yaml has every key that the daemon takes."""
    assert f'"{key}"' in (ROOT / "daemon/ipsecd/config.py").read_text()
    assert key in plain(MAN / "ipsecd.yaml.5")


def test_every_option_of_the_daemon_is_in_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    """The manual of ipsecd has every option that it takes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) > 5
    for option in options:
        assert option in plain(MAN / "ipsecd.8"), option


@pytest.mark.parametrize(
    ("shell", "file"), [("bash", "ipsecctl.bash"), ("zsh", "_ipsecctl"), ("fish", "ipsecctl.fish")]
)
def test_completions_can_be_read(shell: str, file: str) -> None:
    """Each shell finds no mistake in its own."""
    if shutil.which(shell) is None:
        assert not os.environ.get("CI"), f"needs {shell}"
        pytest.skip(f"needs {shell}")
    done = subprocess.run(
        [shell, "-n", COMPLETIONS / file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_data_is_installed_where_it_belongs(tmp_path: Path) -> None:
    """Units, settings, manuals and completions; the units run what is installed."""
    words = ["make", "-s", "install-data", f"DESTDIR={tmp_path}", "PREFIX=/opt/x"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "opt/x/lib/systemd/system/ipsecd.service").read_text()
    assert "ExecStart=/opt/x/sbin/ipsecd" in unit
    assert "ExecStop=/opt/x/libexec/ipsecd/withdraw-if-stopped" in unit
    for path in (
        "etc/ipsecd/ipsecd.yaml",
        "opt/x/libexec/ipsecd/withdraw-if-stopped",
        "opt/x/lib/sysusers.d/ipsecd.conf",
        "opt/x/lib/tmpfiles.d/ipsecd.conf",
        "opt/x/share/man/man5/ipsec-policy.5",
        "opt/x/share/bash-completion/completions/ipsecctl",
    ):
        assert (tmp_path / path).exists(), path
