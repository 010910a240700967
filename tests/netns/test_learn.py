"""What audit rules noted, or blocks dropped, is learned and passes then: by real packets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, PEER4, PEER6, Daemon, delivered
from tests.netns.test_monitor import Watcher, send

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]
DOCUMENT = """\
# ours
policy: Web
rules:
  - rule: Nothing gets in   # for now
    action: block
    filters: ["*=0::UDP"]
"""
FIRST, PORTS, OTHER = 7, (53, 1434), 99
"""A port that is sent to until packets are told of; those that are learned; and one that is not."""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        running.put(DOCUMENT)
        yield running


def proposed(daemon: Daemon) -> set[str]:
    """The permits that ``learn`` proposes now; none where nothing was noted."""
    done = subprocess.run(
        [sys.executable, "-m", "ipsecctl", "learn", "Web", "--from", "audit", "--json"],
        capture_output=True,
        text=True,
        env=daemon.environment,
        check=False,
    )
    rules = json.loads(done.stdout).get("rules", [])
    return {permit["filter"] for rule in rules for permit in rule["filters"]}


def test_a_policy_that_was_tried_is_learned_from_and_enforced(daemon: Daemon) -> None:
    """What was noted passes when it blocks, what was not is dropped, and its file is kept."""
    daemon.ctl("policy", "assign", "Web", "--audit")
    assert site.eventually(lambda: delivered(HERE4, FIRST) == 5 and bool(proposed(daemon)), 20)
    assert [delivered(here, port) for here in (HERE4, HERE6) for port in PORTS] == [5] * 4
    wanted = {f"{PEER4}=0:7,53,1434:UDP", f"[{PEER6}]=0:53,1434:UDP"}
    assert site.eventually(lambda: proposed(daemon) == wanted, 20), proposed(daemon)
    daemon.ctl("learn", "Web", "--from", "audit", "--write")
    daemon.ctl("policy", "assign", "Web", "--enforce")
    assert (daemon.policies / "web.yaml").read_text().startswith(DOCUMENT)
    assert [delivered(here, port) for here in (HERE4, HERE6) for port in PORTS] == [5] * 4
    assert [delivered(here, OTHER) for here in (HERE4, HERE6)] == [0, 0]
    assert proposed(daemon) == set()


def test_what_was_dropped_while_somebody_looked_passes(daemon: Daemon, tmp_path: Path) -> None:
    """The lines of ``monitor --json`` are learned from as well."""
    watcher = Watcher(daemon, "--json")
    seen = b""
    # Programs that have just begun to tell of more lose some of the first packets, and say so.
    while not all(f":{port} in".encode() in seen for port in PORTS):
        for port in PORTS:
            send(1, port)
        seen += watcher.line()
    out, _ = watcher.end()
    recorded = tmp_path / "seen"
    recorded.write_bytes(seen + out)
    words = ("learn", "Web", "--from", str(recorded), "--blocked")
    (rule,) = json.loads(daemon.ctl(*words, "--json"))["rules"]
    assert [permit["filter"] for permit in rule["filters"]] == [f"{PEER4}=0:53,1434:UDP"]
    daemon.ctl(*words, "--write")
    assert (daemon.policies / "web.yaml").read_text().startswith(DOCUMENT)
    assert [delivered(HERE4, port) for port in (*PORTS, OTHER)] == [5, 5, 0]
