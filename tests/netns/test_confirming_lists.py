"""Lists whose change nobody confirms, by the real commands, real daemons and real packets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ipsecd
from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, delivered, eventually
from tests.netns.test_confirmation import without_counts

pytestmark = pytest.mark.netns
OPEN, CLOSED = 1434, 1435
POLICY = """\
policy: P
rules:
  - rule: R
    action: block
    filters: ["@bans=0:{}:UDP"]
"""
BEFORE = "# who may not\n203.0.113.7\n192.0.2.0/24  # since May\n"
NEXT_VERSION = "99.1"


@pytest.fixture(params=site.BACKENDS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """The peer is in no list, so both ports are open to it."""
    with site.daemon(tmp_path, request.param, "recorder: off\n") as running:
        running.put(POLICY.format(OPEN))
        before = tmp_path / "before"
        before.write_text(BEFORE)
        running.ctl("list", "create", "bans", "--from", str(before))
        running.ctl("list", "add", "bans", "198.51.100.1", "--for", "1h")
        yield running


def passes(port: int = OPEN) -> bool:
    return delivered(HERE4, port) == 5


def listed(daemon: Daemon) -> tuple[str, str]:
    """The file of the list, and its entries; of an end alone that there is one."""
    file = (daemon.directory / "etc/lists/bans").read_text()
    entries = daemon.ctl("list", "show", "bans")
    return file, re.sub(r"# for .*", "# for", entries)


def held(daemon: Daemon) -> list[str]:
    """What the kernel holds, without the order in which sets were made, and the room in them."""
    return sorted(re.sub(r"size \d+", "size", without_counts(daemon)).split("\n\n"))


def replace_the_program(daemon: Daemon) -> None:
    """Have another version of the daemon, from another directory, go on where this one was."""
    installed = Path(ipsecd.__file__).parent
    other = daemon.directory / "next"
    for package in (installed, installed.parent / "ipsecd_domain"):
        shutil.copytree(package, other / package.name)
    version = other / "ipsecd/__init__.py"
    version.write_text(version.read_text().replace(ipsecd.__version__, NEXT_VERSION))
    daemon.end(signal.SIGUSR1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(other), prepend=os.pathsep)
        daemon.start()
    assert json.loads(daemon.ctl("status", "--json"))["version"] == NEXT_VERSION


@pytest.mark.parametrize("end", ["killed", "replaced"])
def test_without_confirmation_a_list_returns(daemon: Daemon, end: str) -> None:
    """By itself when the time is over, also if the daemon was killed or upgraded meanwhile."""
    before, held_before = listed(daemon), held(daemon)
    new = daemon.directory / "new"
    new.write_text(f"# all of us\n{PEER4}\n")
    assert passes()
    said = daemon.ctl("list", "replace", "bans", str(new), "--accept", "--confirm", "5s")
    assert "put back as it was" in said
    daemon.ctl("list", "add", "bans", "192.0.2.77")
    if end == "killed":
        daemon.end(signal.SIGKILL)
        daemon.start()
    else:
        replace_the_program(daemon)
    assert eventually(passes)
    assert "put back: the change by uid 0 (root)" in daemon.ctl("status")
    daemon.ctl("list", "remove", "bans", "192.0.2.77")
    assert listed(daemon) == before
    assert held(daemon) == held_before


def test_a_reload_of_lists_and_policies_returns_as_one(daemon: Daemon) -> None:
    """Both files are what they were; what was edited lies beside them."""
    before = listed(daemon)
    policy = next(daemon.policies.glob("*.yaml"))
    document = policy.read_text()
    file = daemon.directory / "etc/lists/bans"
    policy.write_text(POLICY.format(CLOSED))
    file.write_text(f"{PEER4}\n")
    daemon.ctl("reload", "--confirm", "1h")
    assert passes()
    assert not passes(CLOSED)
    assert "was put back" in daemon.ctl("revert")
    assert passes()
    assert passes(CLOSED)
    assert listed(daemon) == before
    assert policy.read_text() == document
    assert file.with_name("bans.unconfirmed-1").read_text() == f"{PEER4}\n"


def test_a_ban_is_kept_from_another_login(daemon: Daemon) -> None:
    """The login that added it is refused; another keeps it."""
    daemon.ctl("list", "add", "bans", PEER4, "--accept", "--confirm", "1h")
    assert not passes()
    assert "is put back in" in daemon.ctl("list", "show", "bans")
    assert "UNCONFIRMED" in daemon.ctl("status")
    assert "in this login" in daemon.ctl("confirm", code=1)
    words = [sys.executable, "-m", "ipsecctl", "confirm"]
    subprocess.run(words, env=daemon.environment, start_new_session=True, check=True)
    assert not passes()
    assert "no change waits" in daemon.ctl("revert", code=1)
