"""Tests of ``ipsecctl`` as a process: what it imports, and what it writes to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ipsecctl
import ipsecd
from tests.ctl.fake_daemon import FakeDaemon

HEAVY = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "difflib", "enum",
    "functools", "importlib", "inspect", "ipaddress", "json", "pyroute2", "re", "socket",
    "subprocess", "typing", "uuid", "yaml", "ipsecctl.ipseccmd", "ipsecctl.policies",
    "ipsecctl.show", "ipsecctl.usage", "ipsecd.language", "ipsecd.model",
}  # fmt: skip
"""What takes longer to import than a command may take as a whole."""
PROGRAM = """
import sys
before = set(sys.modules)
from ipsecctl.__main__ import main
code = main(["ipsecctl", *sys.argv[1:]])
print(*sorted(set(sys.modules) - before))
sys.exit(code)
"""
QUICK = {
    "status": ["ipsecctl.status"],
    "block 203.0.113.7": ["ipsecctl.dynamic"],
    "block 2001:db8::7 udp/1434 *=0:22:TCP --for 1h30m": ["ipsecctl.dynamic", "ipsecctl.ends"],
    "unblock 203.0.113.7": ["ipsecctl.dynamic"],
    "flush": ["ipsecctl.dynamic"],
}
"""What people and programs type most, and what has to be imported for it."""


@pytest.mark.parametrize("line", QUICK)
def test_what_is_typed_most_imports_nothing_heavy(daemon: FakeDaemon, line: str) -> None:
    """No model and no language, and no module of Python that is slow to import.

    An interpreter that is isolated has imported none of them by itself.
    """
    places = [str(Path(package.__file__ or "").parents[1]) for package in (ipsecctl, ipsecd)]
    program = f"import sys; sys.path += {places}{PROGRAM}"
    words = [sys.executable, "-I", "-S", "-c", program, *line.split()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported >= set(QUICK[line])
    assert imported & HEAVY == set()
    # Of the state it is asked too what was dropped.
    assert len(daemon.calls) == (2 if line == "status" else 1)


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
    assert daemon.calls == [("Status", {}), ("Stats", {})]
