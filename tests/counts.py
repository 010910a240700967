"""Owns what rules in force have matched, as tests ask a backend for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ipsecd.backend.base import UNREADABLE, Count, Readings, sum_of
from ipsecd.model.values import Origin


class HasReadings(Protocol):
    """A backend, or part of one."""

    def readings(self, known: Iterable[Origin], /) -> Readings:
        """What all counters of rules hold."""


def counts_of(backend: HasReadings) -> dict[Origin, Count]:
    """What the counters hold that count for rules in force, whatever they are parts of."""
    counts: dict[Origin, Count] = {}
    for part in backend.readings(()).now.values():
        counts = sum_of(counts, part)
    counts.pop(UNREADABLE, None)
    return counts
