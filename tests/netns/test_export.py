"""What is exported does without the daemon, by the real commands and real packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecctl.exporting.nft_ruleset import TABLE
from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, delivered, run

pytestmark = pytest.mark.netns
DOCUMENT = f"""
policy: Web
rules:
  - rule: Nobody
    action: block
    filters: ["@strangers=0:1434,1435:UDP"]
  - rule: But the peer
    action: permit
    filters: ["{PEER4}=0:1435:UDP"]
"""
MINIMAL = "policy: Other\nrules: []\n"


def carried_out(daemon: Daemon, script: str) -> None:
    """Run a script whose commands are those of this checkout."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "IPSECD_SOCKET": daemon.environment["IPSECD_SOCKET"]}
    subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)


def test_an_export_needs_no_daemon(tmp_path: Path) -> None:
    """The table does what the daemon did; and scripts make the policy again that they are of."""
    with site.daemon(tmp_path) as daemon:
        for name, text in (("web", DOCUMENT), ("other", MINIMAL)):
            (tmp_path / f"{name}.yaml").write_text(text)
        daemon.ctl("list", "create", "strangers")
        daemon.ctl("list", "add", "strangers", "192.168.0.0/16", "203.0.113.0/24", "--accept")
        daemon.ctl("apply", str(tmp_path / "web.yaml"), "--assign")
        daemon.ctl("block", "203.0.113.7=0:53:UDP")
        assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 5)
        table = tmp_path / "web.nft"
        daemon.ctl("export", "nft", "--output", str(table))
        assert "dynamic" in table.read_text()

        daemon.ctl("apply", str(tmp_path / "other.yaml"), "--assign")
        daemon.ctl("rule", "add", "Other", "Worms", "*=0:1434:UDP", "--action", "block")
        scripts = {form: daemon.ctl("export", form, "Other") for form in ("ipseccmd", "netsh")}
        before = json.loads(daemon.ctl("export", "json", "Other"))["policies"][0]
        for script in scripts.values():
            daemon.ctl("policy", "delete", "Other", "--unassign")
            carried_out(daemon, script)
            after = json.loads(daemon.ctl("export", "json", "Other"))["policies"][0]
            assert after["rules"] == before["rules"]
            assert after["assigned"]
        daemon.end(signal.SIGTERM)
        assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (5, 5)
        run("nft", "-f", str(table))
        assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 5)
        run("nft", "-f", str(table))
        run("nft", "delete", "table", "inet", TABLE)
        assert delivered(HERE4, 1434) == 5
