"""Owns what is seen of dropped packets: has the backend tell of them, and finds out what decided.

Must not know who watches.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipsecd.backend.reporting import Report, Reporting
from ipsecd.engine.attribution import Attribution
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.recent import RecentStates
from ipsecd.engine.state import State
from ipsecd.errors import Refused
from ipsecd.model.sightings import Sighting


class Seeing:
    """What the backend of now tells of, whichever that is."""

    def __init__(self, enforcement: Enforcement) -> None:
        self._enforcement = enforcement
        self._recent = RecentStates()
        self._attribution = Attribution(self._recent)
        self._reporting: Reporting | None = None
        self._before = self._counted = 0
        self._others = enforcement.heard
        enforcement.heard = self._heard

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
        if reporting is not self._reporting:
            self._reporting = reporting
            self._before, self._counted = self._before + self._counted, 0
        reporting.set_budget(budget)
        self._counted = reporting.blocked() if budget else 0
        self._before = self._before if budget else 0
        return reporting, self._before + self._counted

    def sightings(self, reports: Sequence[Report]) -> list[Sighting]:
        """What decided about packets; for the one thread that reads reports."""
        return self._attribution.sightings(reports)

    def _heard(self, state: State) -> None:
        self._others(state)
        self._recent.heard(state)
