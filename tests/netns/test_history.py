"""The history and a rollback, by the real commands, a real daemon and real packets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, Daemon, block, delivered

pytestmark = pytest.mark.netns
OPEN, CLOSED = 1434, 1435


@pytest.fixture(params=site.BACKENDS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        block(running, f"*=0:{CLOSED}:UDP")
        yield running


def test_a_rollback_is_in_force_at_once(daemon: Daemon) -> None:
    """The rules before the last change decide again, and the history outlives the daemon."""
    name = json.loads(daemon.ctl("show", "policies", "--json"))[0]["name"]
    daemon.ctl("rule", "add", name, "more", f"udp/{OPEN}", "--action", "block", "--message", "why")
    assert delivered(HERE4, OPEN) == 0
    row = json.loads(daemon.ctl("history", "--json"))[0]
    assert (row["user"], row["message"], row["state"]) == ("root", "why", 1)
    assert row["command"]
    assert f'rule "more": block *=0:{OPEN}:UDP' in daemon.ctl("diff", "@1", code=1)
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert "again what they were at @1" in daemon.ctl("rollback", "--confirm", "1h")
    assert (delivered(HERE4, OPEN), delivered(HERE4, CLOSED)) == (5, 0)
    daemon.ctl("revert")
    assert (delivered(HERE4, OPEN), delivered(HERE4, CLOSED)) == (0, 0)
    sources = [each["source"] for each in json.loads(daemon.ctl("history", "--json"))]
    assert sources[:3] == ["revert", "rollback", "command"]
