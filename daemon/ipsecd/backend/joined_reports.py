"""Owns what several tell of the packets that they drop, as if it were one that tells it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from ipsecd.backend.reporting import Report, Reporting


class JoinedReports:
    """The reports of several parts; a ``Reporting`` like each of them."""

    def __init__(self, parts: Sequence[Reporting]) -> None:
        self.parts = tuple(parts)

    def set_budget(self, packets_per_second: int) -> None:
        """Have each part report so many: a flood that one drops does not silence the others.

        If a part cannot, all are switched off. Raises ``BackendFailed``.
        """
        try:
            for part in self.parts:
                part.set_budget(packets_per_second)
        except BaseException:
            for part in self.parts:
                part.set_budget(0)
            raise

    def descriptors(self) -> tuple[int, ...]:
        """Those of all parts."""
        return tuple(descriptor for part in self.parts for descriptor in part.descriptors())

    def read(self, most: int) -> list[Report]:
        """The reports that wait, in the order of time; each part has its share of `most`."""
        reports: list[Report] = []
        for left, part in zip(range(len(self.parts), 0, -1), self.parts, strict=True):
            reports += part.read(max(0, -(-(most - len(reports)) // left)))
        reports.sort(key=attrgetter("at_ns"))
        return reports

    def blocked(self) -> int:
        """What all of them have dropped."""
        return sum(part.blocked() for part in self.parts)
