"""What the tests in a guest said: reads the lines that ``inside.py`` writes, as they come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Result:
    """The result of one test, or of a file that could not be collected."""

    ended: bool = False
    skip: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    """What it said in each phase that failed."""


@dataclass
class Outcome:
    """The results of the tests that one argument of pytest names."""

    waiting: list[str]
    passed: list[str]
    skips: set[str]
    failures: dict[str, str]

    def pass_on(self, where: str) -> None:
        """Fail as the tests did, or skip as all of them were skipped; no test at all fails."""
        if self.failures:
            texts = [f"==== {name}\n{text}" for name, text in self.failures.items()]
            pytest.fail("\n".join([f"{where}:", *texts]), pytrace=False)
        if self.skips and not self.passed:
            pytest.skip(f"{where}: {', '.join(sorted(self.skips))}")
        if not self.passed:
            pytest.fail(f"{where}: no test was run", pytrace=False)


class Report:
    """The results so far, by the name of the test."""

    def __init__(self, path: Path) -> None:
        """`path` is the file of the guest's reports; it need not exist yet."""
        self._path = path
        self._read = 0
        self._results: dict[str, Result] = {}
        self.collected = False
        self.finished = False

    def read(self) -> None:
        """Take in what has been written since."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def outcome(self, argument: str) -> Outcome:
        """What came so far of the tests of a file, or of one test with all its parameters."""
        results = {
            name: result
            for name, result in self._results.items()
            if name == argument or name.startswith((f"{argument}::", f"{argument}["))
        }
        return Outcome(
            [name for name, result in results.items() if not result.ended],
            [
                name
                for name, result in results.items()
                if result.ended and not result.skip and not result.failures
            ],
            {result.skip for result in results.values() if result.skip},
            {
                f"{name} ({when})": text
                for name, result in results.items()
                for when, text in result.failures.items()
            },
        )

    def _take(self, line: dict[str, str]) -> None:
        name, when, outcome = line["nodeid"], line["when"], line["outcome"]
        if when in {"all collected", "finished"}:
            self.collected = True
            self.finished = when == "finished"
            return
        result = self._results.setdefault(name, Result())
        if outcome == "failed":
            result.failures[when] = line["text"]
        elif outcome == "skipped":
            result.skip = line["text"]
        result.ended = when in {"teardown", "collecting"}
