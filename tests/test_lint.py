"""Formatting, lint and types of the code are tested too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy", "daemon", "ctl", "tests", "bench"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_code_keeps_its_own_rules(name: str) -> None:
    """Ruff and mypy strict have nothing to say about product and tests."""
    words = [sys.executable, "-m", *COMMANDS[name]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_programs_are_formatted_as_the_kernel_is() -> None:
    """clang-format has nothing to change in the C sources."""
    if shutil.which("clang-format") is None:
        assert not os.environ.get("CI"), "needs clang-format"
        pytest.skip("needs clang-format")
    parts = ("bpf/*.[ch]", "bench/*.c", "tests/*/*.c")
    sources = [str(path) for part in parts for path in ROOT.glob(part)]
    assert sources
    words = ["clang-format", "--dry-run", "--Werror", *sources]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
