"""Tests of ``ipsecctl`` as a process: what it imports, and what it writes to."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.ctl.fake_daemon import FakeDaemon

HEAVY = {
    "argparse", "asyncio", "dataclasses", "inspect", "ipaddress", "ipsecctl.ipseccmd",
    "difflib", "importlib", "ipsecctl.dynamic", "ipsecctl.policies", "ipsecctl.show",
    "ipsecctl.usage", "ipsecd.language", "ipsecd.model", "pyroute2", "subprocess", "uuid", "yaml",
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


def test_reader_that_has_seen_enough(daemon: FakeDaemon) -> None:
    """A pipe that nobody reads any more ends the command without an error, as under head."""
    end, start = os.pipe()
    os.close(end)
    command = [sys.executable, "-m", "ipsecctl", "show"]
    done = subprocess.run(command, stdout=start, stderr=subprocess.PIPE, check=False)
    os.close(start)
    assert (done.returncode, done.stderr) == (0, b"")
    assert daemon.calls == [("ListFilters", {})]


def test_terminal_without_the_letters(daemon: FakeDaemon) -> None:
    """Signs that the output's encoding lacks are escaped, and everything else is said."""
    done = subprocess.run(
        [sys.executable, "-m", "ipsecctl", "status"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"ipsecd 0.1.0 \\xb7 enforcing with nftables" in done.stdout
    assert daemon.calls == [("Status", {})]
