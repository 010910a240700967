"""Which files of tests run in the guests: what of them fits the budget, or the whole of them.

``IPSECD_KERNELS=whole`` asks for the whole, as ``make test-kernels`` does.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.kernels.packages import KERNELS

ROOT = Path(__file__).parents[2]
CHECKS = "tests/kernels/machine_checks.py"
QUICK = {
    "5.10": (CHECKS, "tests/netns/test_article.py"),
    "6.1": (CHECKS, "tests/xdp/test_loading.py", "tests/netns/test_article.py"),
    "6.12": (CHECKS, "tests/xdp/test_loading.py", "tests/netns/test_article.py"),
}
DIRECTORIES = ("tests/netns", "tests/links", "tests/equality", "tests/xdp", "tests/boot")
QUICK_LIMIT_S, WHOLE_LIMIT_S = 12 * 60.0, 6 * 3600.0


def whole() -> bool:
    """Whether everything is asked for."""
    return os.environ.get("IPSECD_KERNELS") == "whole"


def limit_s() -> float:
    """How long a guest has for all of its tests."""
    return WHOLE_LIMIT_S if whole() else QUICK_LIMIT_S


def files() -> list[tuple[str, str]]:
    """Kernels, and the files that run there."""
    if not whole():
        return [(kernel, file) for kernel in KERNELS for file in QUICK[kernel]]
    found = [CHECKS]
    for directory in DIRECTORIES:
        found += sorted(str(p.relative_to(ROOT)) for p in (ROOT / directory).glob("test_*.py"))
    return [(kernel, file) for kernel in KERNELS for file in found]
