"""How many descriptors the daemon may open."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
PROGRAM = """
import resource
from ipsecd.__main__ import main
main(["--check", "--config-dir", "/nonexistent"])
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_of_descriptors_becomes_the_hard_one() -> None:
    """A daemon that a shell starts with 1,024 descriptors takes what it may have."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2048)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "2048 2048"


@pytest.mark.parametrize("unit", ["ipsecd.service", "ipsecd-boot.service"])
def test_units_allow_many_descriptors(unit: str) -> None:
    """The filter of system calls forbids raising it, so the units do."""
    assert "LimitNOFILE=65536" in (UNITS / unit).read_text().splitlines()
