"""The tools of Prometheus, which are unpacked and not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "build/prometheus/usr/bin"


def promtool() -> str:
    """The path of promtool; the test is skipped where there is none."""
    path = TOOLS / "promtool"
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail("there is no promtool: make base-system")
        pytest.skip("there is no promtool: make base-system")
    return str(path)
