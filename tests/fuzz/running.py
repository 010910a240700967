"""Runs a fuzz target by itself, for as long as one likes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable


def fuzz(target: Callable[[bytes], None]) -> None:
    """Run `target` under atheris, where it is installed."""
    atheris = importlib.import_module("atheris")
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
