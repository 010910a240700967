"""Owns running work here and now, where there is one thread and so no line to run it in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def at_once(work: Callable[[], T]) -> T:
    """Run `work` here and now. This suits a program with one thread."""
    return work()
