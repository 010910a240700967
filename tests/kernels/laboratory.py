"""Boots a guest for each kernel, all at once, and hands out what its tests said.

Invariants:

1. A guest runs one pytest for all files that are wanted of its kernel.
2. What did not get a result, because the guest or its time ended, has failed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kernels.guest import Guest
from tests.kernels.packages import Kernel
from tests.kernels.report import Outcome, Report

ROOT = Path(__file__).parents[2]
PYTEST = (".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
REPORTING = ("-p", "tests.kernels.inside", "--lab-report", "/lab/report")
LIGHT = ("-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:xdist.looponfail")
"""What its tests run without as well, and what takes longer to load than most tests to run."""
LAST_WORDS = 3000
"""How much of its output is shown of a guest that ended too early, in characters."""


class Laboratory:
    """The guests, from the first boot to the end of the last."""

    def __init__(
        self,
        wanted: Mapping[str, Sequence[str]],
        directory: Path,
        limit_s: float,
        processors: int = 1,
    ) -> None:
        """Boot; `wanted` are arguments of pytest for each kernel."""
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._guests: dict[str, Guest] = {}
        self._reports: dict[str, Report] = {}
        self._shares = [directory / name for name in wanted]
        try:
            for name, arguments in wanted.items():
                share = directory / name
                share.mkdir()
                self._guests[name] = Guest(Kernel(name), share, processors=processors)
                self._reports[name] = Report(share / "report")
                self._guests[name].start([*PYTEST, *REPORTING, *LIGHT, *arguments], ROOT)
        except BaseException:
            self.close()
            raise

    def outcome(self, name: str, argument: str) -> Outcome:
        """What came of the tests that an argument names, when all of them have ended."""
        report = self._reports[name]
        while True:
            guest = self._guests[name]
            over = not (guest.running or guest.boot_again())
            report.read()
            outcome = report.outcome(argument)
            if report.finished or (report.collected and not outcome.waiting):
                return outcome
            if over or time.monotonic() > self._deadline:
                guest.stop()
                return self._lost(name, outcome, over=over)
            time.sleep(0.2)

    def close(self) -> None:
        """End all guests; what came out about links goes where the host keeps such results."""
        for guest in self._guests.values():
            guest.stop()
        if kept := os.environ.get("IPSECD_LINK_RESULTS"):
            for share in self._shares:
                if (share / "links").is_dir():
                    shutil.copytree(share / "links", kept, dirs_exist_ok=True)

    def _lost(self, name: str, outcome: Outcome, *, over: bool) -> Outcome:
        guest = self._guests[name]
        reason = "the guest ended" if over else f"its {self._limit_s:.0f} s were over"
        words = guest.output()[-LAST_WORDS:] + guest.console()[-LAST_WORDS:]
        text = f"no result: {reason} before; its last words:\n{words}"
        outcome.failures |= dict.fromkeys(outcome.waiting or ["collecting"], text)
        return outcome
