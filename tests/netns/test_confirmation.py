"""A change that nobody confirms, by the real commands, a real daemon and real packets."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.backend.nftables.naming import CONTENTS
from tests.netns import site
from tests.netns.site import HERE4, Daemon, block, delivered, eventually

pytestmark = pytest.mark.netns
OPEN, CLOSED = 1434, 1435
POLICY = """\
policy: P
rules:
  - rule: R
    action: block
    filters: ["*=0:{}:UDP"]
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param, "recorder: off\n") as running:
        block(running, f"*=0:{CLOSED}:UDP")
        yield running


def without_counts(daemon: Daemon) -> str:
    """What the kernel holds, but for how often what matched, and how often it has changed.

    The set that says what sets hold has digests of their names, with their numbers.
    """
    state = re.sub(rf"set {CONTENTS} {{.*?\n\t}}\n", "", site.kernel_state(daemon), flags=re.DOTALL)
    return re.sub(r"packets \d+ bytes \d+|_g\d+|generation \d+", "", state)


def is_as_before() -> bool:
    return delivered(HERE4, OPEN) == 5 and delivered(HERE4, CLOSED) == 0


def change(daemon: Daemon, confirm: str) -> None:
    """Block the other port, with a policy that has to be confirmed."""
    file = daemon.directory / "new.yaml"
    file.write_text(POLICY.format(OPEN))
    said = daemon.ctl("apply", str(file), "--assign", "--confirm", confirm)
    assert "is stored" in said
    assert delivered(HERE4, OPEN) == 0
    assert delivered(HERE4, CLOSED) == 5


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGUSR1])
def test_without_confirmation_the_state_before_returns(daemon: Daemon, end: signal.Signals) -> None:
    """By itself when the time is over, also if the daemon was killed or replaced meanwhile."""
    before = without_counts(daemon)
    daemon.ctl("block", "192.0.2.7", "--for", "1h")
    change(daemon, "5s")
    assert "UNCONFIRMED: the change by uid 0 (root)" in daemon.ctl("status")
    daemon.end(end)
    daemon.start()
    assert eventually(is_as_before)
    assert "put back: the change by uid 0 (root)" in daemon.ctl("status")
    assert "192.0.2.7" in daemon.ctl("show", "dynamic")
    daemon.ctl("unblock", "192.0.2.7")
    assert without_counts(daemon) == before
    assert "put-back" in daemon.log()


def test_it_is_confirmed_from_another_login(daemon: Daemon) -> None:
    """The login that made the change is refused; another keeps the change."""
    change(daemon, "1h")
    assert "in this login" in daemon.ctl("confirm", code=1)
    words = [sys.executable, "-m", "ipsecctl", "confirm"]
    subprocess.run(words, env=daemon.environment, start_new_session=True, check=True)
    assert delivered(HERE4, OPEN) == 0
    assert "no change waits" in daemon.ctl("revert", code=1)


def test_it_is_reverted_by_hand(daemon: Daemon) -> None:
    """At once, whoever does it."""
    change(daemon, "1h")
    assert "was put back" in daemon.ctl("revert")
    assert is_as_before()
