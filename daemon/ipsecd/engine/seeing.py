"""Owns what is seen of dropped packets: has the backend tell of them, and finds out what decided.

Must not know who watches.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipsecd.backend.joined_reports import JoinedReports
from ipsecd.backend.reporting import Report, Reporting
from ipsecd.engine.attribution import Attribution
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.recent import RecentStates
from ipsecd.errors import Refused
from ipsecd.model.sightings import Sighting


class Seeing:
    """What the backend of now tells of, whichever that is."""

    def __init__(self, enforcement: Enforcement) -> None:
        self.lost = 0
        """How many packets those who watch have lost, all together."""
        self._enforcement = enforcement
        self._recent = RecentStates()
        self._attribution = Attribution(self._recent)
        self._ended = 0
        self._counts: dict[int, tuple[Reporting, int]] = {}
        enforcement.listeners.append(self._recent.heard)

    def look(self, budget: int) -> tuple[Reporting, int]:
        """Have at most `budget` packets a second told of; what tells of them, and their count.

        The count is of all that were dropped since the budget was 0, by whatever backend. Raises
        ``IpsecdError``.
        """
        reporting = self._enforcement.backend.reporting
        if reporting is None:
            raise Refused(
                f"backend {self._enforcement.backend.name} cannot tell which packets it drops",
                "ipsecctl doctor says what is missing",
            )
        if budget:
            self._recent.begin(self._enforcement.state)
        else:
            self._recent.end()
        reporting.set_budget(budget)
        return reporting, self._count(reporting, begins=not budget)

    def sightings(self, reports: Sequence[Report]) -> list[Sighting]:
        """What decided about packets; for the one thread that reads reports."""
        return self._attribution.sightings(reports)

    def _count(self, reporting: Reporting, *, begins: bool) -> int:
        """How many packets all that told of them have counted, those that are gone included.

        What two backends share counts on when one takes the place of the other.
        """
        if begins:
            self._ended, self._counts = 0, {}
            return 0
        parts = reporting.parts if isinstance(reporting, JoinedReports) else (reporting,)
        # Each is kept, so that no other can have its identity.
        counts = {id(part): (part, part.blocked()) for part in parts}
        for part, (_, before) in self._counts.items():
            if part not in counts or counts[part][1] < before:
                self._ended += before
        self._counts = counts
        return self._ended + sum(count for _, count in counts.values())
