"""Owns whose reports the programs of a backend are; must not know what is in them."""

from __future__ import annotations

from ipsecd.backend.reporting import Reporting
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.reports import ProgramReports


class Reported:
    """What a backend of programs has for the reports of those in force."""

    def __init__(self) -> None:
        self._reports = ProgramReports()
        self._are_shared = False

    @property
    def reporting(self) -> Reporting:
        """What tells which packets were dropped: every kernel that takes programs can."""
        return self._reports

    def report_to(self, reports: ProgramReports) -> None:
        """Have the reports of these programs among those of others, which the caller closes.

        It must be called before there are programs.
        """
        self._reports.close()
        self._reports, self._are_shared = reports, True

    def _begin_reports(self, programs: Programs) -> None:
        """Have programs tell that are about to judge; raises ``OSError``."""
        self._reports.follow(programs.maps)

    def _let_go(self, programs: Programs | None) -> None:
        """Close programs, if there are any, that judge no more or go on without this process."""
        if programs:
            self._reports.leave(programs.maps)
            programs.close()

    def _close_reports(self) -> None:
        if not self._are_shared:
            self._reports.close()
