"""The short form of the soak: other random changes each time, under a flood."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.moments.changes import Changes
from tests.moments.soak import soak
from tests.netns import site
from tests.netns.site import BACKENDS, Daemon

pytestmark = pytest.mark.netns

SECONDS = 12


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_leaks_and_nothing_grows_whatever_happens(backend: str) -> None:
    """Links, addresses, rules, programs of others and the daemon change in any order."""
    site.needs_isolation()
    seed = random.SystemRandom().randrange(1 << 32)
    faults, report = soak(backend, SECONDS, seed)
    assert not faults, "\n".join((f"seed {seed}", *faults, *report))


def test_a_connection_that_was_silent_for_too_long_ends_no_soak(tmp_path: Path) -> None:
    """The daemon has ended it; the next change is made over another."""
    site.needs_isolation()
    settings = tmp_path / "ipsecd.yaml"
    settings.write_text("limits:\n  idle-timeout: 1\n")
    daemon = Daemon(tmp_path)
    daemon.options = ("--config", str(settings))
    daemon.start()
    try:
        changes = Changes(daemon, random.Random(1434))
        changes.apply()
        time.sleep(1.5)
        changes.apply()
        assert "timeout" in daemon.log()
    finally:
        daemon.end()
