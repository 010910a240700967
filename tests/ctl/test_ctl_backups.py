"""The verbs on backups: where the archive goes, who may read it, and what is passed."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from ipsecctl.__main__ import main
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import OUTCOME, FakeDaemon

ARCHIVE = bytes(range(256)) * 3
REPLY = {
    "archive": b64encode(ARCHIVE).decode(),
    "policies": 2,
    "lists": 1,
    "dynamic_rules": 0,
    "warnings": ["it is not in the backup: why"],
}


@pytest.fixture(autouse=True)
def replies(daemon: FakeDaemon) -> None:
    daemon.replies["GetBackup"] = REPLY
    daemon.replies["Restore"] = {"outcome": {**OUTCOME, "changes": ["+ list 'x': 1 entry"]}}


def test_a_backup_is_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    """URLs in it may hold passwords; what is there already keeps its mode, and is replaced."""
    file = tmp_path / "host.tar"
    ran = run("ipsecctl", "backup", str(file))
    assert (ran.code, ran.out) == (0, f"{file}: 2 policies, 1 list, 0 dynamic rules, 768 bytes\n")
    assert ran.err == "warning: it is not in the backup: why\n"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (ARCHIVE, 0o600)
    file.chmod(0o640)
    file.write_bytes(b"old")
    told = json.loads(run("ipsecctl", "backup", str(file), "--json").out)
    assert told == {
        "file": str(file),
        "bytes": 768,
        "policies": 2,
        "lists": 1,
        "dynamic_rules": 0,
        "warnings": REPLY["warnings"],
    }
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (ARCHIVE, 0o640)
    assert [each.name for each in tmp_path.iterdir()] == ["host.tar"]


def test_a_backup_goes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every byte as it is, and nothing else."""
    assert main(["ipsecctl", "backup", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert (out, err) == (ARCHIVE, b"warning: it is not in the backup: why\n")


def test_only_one_thing_goes_to_standard_output(daemon: FakeDaemon, run: Run) -> None:
    """No daemon is asked in vain."""
    assert run("ipsecctl", "backup", "-", "--json").code == 2
    assert not daemon.calls


def test_a_backup_is_passed_as_an_open_file(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """With what is asked for; what changed is told."""
    (tmp_path / "host.tar").write_bytes(ARCHIVE)
    path = str(tmp_path / "host.tar")
    ran = run("ipsecctl", "restore", path, "--dry-run")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "+ list 'x': 1 entry")
    (call,) = daemon.calls
    assert (call[0], call[1]["source"], call[1]["dry_run"]) == ("Restore", path, True)
    assert daemon.document == ARCHIVE
