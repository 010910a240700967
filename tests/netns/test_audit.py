"""A policy that is tried as audits, by the real commands, a real daemon and real packets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, Daemon, delivered

pytestmark = pytest.mark.netns
DOCUMENT = """\
# ours
policy: Web
description: tried first

rules:
  - rule: "Worms"   # of 2003
    action: block
    filters: ["*=0:1434:UDP"]
  - rule: But these
    action: permit
    filters: ["*=0:1435:UDP"]
expect:
  - "block udp 203.0.113.7:4000 > me:1434"
"""
AS_AUDITS = DOCUMENT.replace("first\n", "first\naudit: true\n")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path) as running:
        yield running


def counted(daemon: Daemon) -> dict[str, int]:
    """How many packets each rule has matched."""
    rules = json.loads(daemon.ctl("stats", "--json"))["rules"]
    return {rule["rule"]: rule["packets"] for rule in rules}


def test_a_policy_is_tried_before_it_blocks(daemon: Daemon, tmp_path: Path) -> None:
    """It blocks nothing and counts what it would, over a crash and a restart, until it is told."""
    given, file = tmp_path / "given.yaml", daemon.policies / "web.yaml"
    given.write_text(DOCUMENT)
    assert "blocks nothing" in daemon.ctl("apply", str(given), "--assign", "--audit")
    assert file.read_text() == AS_AUDITS
    assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (5, 5)
    assert counted(daemon) == {"Worms": 5, "But these": 5}
    assert "as audits: it blocks nothing" in daemon.ctl("status")
    assert "assigned, audit" in daemon.ctl("policy", "list")
    said = daemon.ctl("explain", f"udp 203.0.113.7:4000 > {HERE4}:1434")
    assert "would block it; it passes because nothing else matches" in said

    for end in (signal.SIGKILL, signal.SIGUSR1):
        daemon.end(end)
        daemon.start()
        assert delivered(HERE4, 1434) == 5
    assert "is assigned already, as audits" in daemon.ctl("policy", "assign", "Web")

    would = daemon.ctl("policy", "assign", "Web", "--enforce", "--dry-run")
    assert "permit becomes block: udp" in would
    assert delivered(HERE4, 1434) == 5
    daemon.ctl("policy", "assign", "Web", "--enforce")
    assert file.read_text() == DOCUMENT
    assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 5)
    assert "audit" not in daemon.ctl("status")
    assert "dropped    5 packets since" in daemon.ctl("status")
    assert counted(daemon) == {"Worms": 5, "But these": 10}

    daemon.ctl("policy", "assign", "Web", "--audit")
    assert delivered(HERE4, 1434) == 5
    daemon.ctl("rollback")
    assert (file.read_text(), delivered(HERE4, 1434)) == (DOCUMENT, 0)
    assert "exclude" in daemon.ctl("policy", "assign", "Web", "--audit", "--enforce", code=2)


def test_a_dynamic_rule_is_tried_before_it_blocks(daemon: Daemon) -> None:
    """It counts beside what blocks and permits; a block in its place drops what it counted."""
    daemon.ctl("block", "--audit", "udp/1434", "--name", "try")
    assert delivered(HERE4, 1434) == 5
    assert counted(daemon) == {"try": 5}
    assert "audit" in daemon.ctl("show", "dynamic")
    daemon.ctl("block", "udp/1434", "--name", "try", "--replace")
    assert delivered(HERE4, 1434) == 0
    assert counted(daemon) == {"try": 5}
