"""Owns that a benchmark touches no network but its own."""

from __future__ import annotations

import os


def must_be_isolated() -> None:
    """End the program unless it runs in namespaces of its own: it is about to load rules."""
    if "IPSECD_ISOLATED" not in os.environ:
        raise SystemExit(
            "this benchmark loads rules, and would do it in the network that you are in\n"
            "run it with make bench, or behind tests/isolated"
        )
