"""Tests of what ``ipsecctl status`` imports: its start-up time is a promise."""

from __future__ import annotations

import subprocess
import sys

from tests.ctl.fake_daemon import FakeDaemon

HEAVY = {
    "argparse", "asyncio", "dataclasses", "inspect", "ipaddress", "ipsecctl.ipseccmd",
    "ipsecctl.dynamic", "ipsecd.language", "ipsecd.model", "pyroute2", "subprocess", "uuid", "yaml",
}  # fmt: skip
PROGRAM = """
import sys
before = set(sys.modules)
from ipsecctl.__main__ import main
code = main(["ipsecctl", "status"])
print(*sorted(set(sys.modules) - before))
sys.exit(code)
"""


def test_status_imports_nothing_heavy(daemon: FakeDaemon) -> None:
    """Status runs without the model, the language and every module that is slow to import."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert "ipsecctl.status" in imported
    assert imported & HEAVY == set()
    assert daemon.calls == [("Status", {})]
