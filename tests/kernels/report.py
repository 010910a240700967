"""What the tests in a guest said: reads the lines that ``inside.py`` writes, as they come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

PHASES = ("setup", "call", "teardown")


@dataclass
class Outcome:
    """Of one file of tests: which there are, and what came of those that have ended."""

    waiting: set[str] = field(default_factory=set)
    passed: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    skips: dict[str, str] = field(default_factory=dict)
    seconds: float = 0


class Report:
    """The outcomes so far, by file."""

    def __init__(self, path: Path) -> None:
        """Nothing need be at `path` yet."""
        self._path = path
        self._read = 0
        self.outcomes: dict[str, Outcome] = {}
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

    def _take(self, line: dict[str, str]) -> None:
        name, when, result = line["nodeid"], line["when"], line["outcome"]
        if when in {"all collected", "finished"}:
            self.collected = True
            self.finished = when == "finished"
            return
        outcome = self.outcomes.setdefault(name.partition("::")[0], Outcome())
        outcome.seconds += float(line.get("seconds", 0))
        if result == "failed":
            outcome.failures[f"{name} ({when})"] = line["text"]
        elif result == "skipped":
            outcome.skips[name] = line["text"]
        if when == "collected":
            outcome.waiting.add(name)
        elif when == "teardown":
            outcome.waiting.discard(name)
            ended = outcome.failures.keys() & {f"{name} ({phase})" for phase in PHASES}
            outcome.passed += not ended and name not in outcome.skips
