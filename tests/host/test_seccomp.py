"""The numbers of closed system calls are those of the kernel's headers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ipsecd.host.seccomp import ARCHITECTURES

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
"""Of every architecture here: that of arm64 has the generic numbers."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_numbers_are_those_of_the_headers(name: str) -> None:
    """A wrong one would close another call, and leave this one open."""
    header = HEADERS[name]
    if not header.exists():
        assert not os.environ.get("CI"), f"needs {header}"
        pytest.skip(f"needs {header}")
    pattern = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    numbers = {call: int(number) for call, number in pattern.findall(header.read_text())}
    closed = ARCHITECTURES[name].closed
    assert {call: numbers[call] for call in closed} == dict(closed)


def test_programs_of_32_bits_are_left_alone() -> None:
    """They would be ended with their first call, as all of theirs have other numbers."""
    code = (
        "import sys; sys.maxsize = 2**31 - 1; from ipsecd.host import seccomp;"
        "sys.exit(seccomp.close_what_reaches_others())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
