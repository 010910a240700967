"""Owns how far the ratios of a second run are from those of the first. Must not know the page."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from bench.figures import Figure

NEAR = 0.15
"""By which share of the smaller two ratios may differ and still be called the same."""


class Pair(NamedTuple):
    """The median ratio of a contestant to the base of a figure, in either run."""

    table: str
    case: str
    contestant: str
    base: str
    first: float
    second: float

    @property
    def differs(self) -> float:
        """By which share of the smaller the larger is more."""
        low, high = sorted((self.first, self.second))
        return high / low - 1 if low else float(high > 0)

    @property
    def is_near(self) -> bool:
        return self.differs <= NEAR


def pairs(first: Iterable[Figure], second: Iterable[Figure]) -> list[Pair]:
    """Each ratio that both runs have, those that differ most before the others."""
    again = {(each.table, each.case): each for each in second}
    found = []
    for figure in first:
        other = again.get((figure.table, figure.case))
        if other is None or other.base != figure.base:
            continue
        for name in figure.rounds:
            if name == figure.base or name not in other.rounds:
                continue
            before, after = figure.ratios(name), other.ratios(name)
            if before and after:
                values = (median(before), median(after))
                found.append(Pair(figure.table, figure.case, name, figure.base, *values))
    return sorted(found, key=lambda pair: -pair.differs)
