"""Owns figures as data: what was measured of whom, in rounds, and how it is kept in a file.

A figure is one thing that is measured of several contestants in turn. A round has one value of
each, so that ratios are taken within a round: what else the machine does strikes both alike.
Whoever cannot take part is named, with the reason. Must not know what is measured, nor the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

RESULTS = Path("build/bench")
UNITS = frozenset({"ns", "µs", "ms", "s", "MiB", "processes", "packets"})
"""Of every unit less is better, so that a ratio below 1 always means the same."""
OURS = "ipsecd"
"""What the names of our own contestants begin with."""
FLOOR = "XDP_DROP alone"
NO_RULES = "no rules"
LIMITS = frozenset({FLOOR, NO_RULES, "fail2ban, an action that does nothing"})
"""Who does no task, and shows what the rest of the way takes."""


@dataclass(frozen=True)
class Figure:
    """What was measured of several contestants, and for whom it could not be."""

    part: str
    """The part of the page that it belongs to."""
    table: str
    """The table in that part."""
    case: str
    """The row of the table."""
    unit: str
    base: str
    """The contestant with which all are compared."""
    rounds: Mapping[str, Sequence[float]]
    """The values of each contestant, one a round."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Who takes no part in this case, and why."""
    size: int | None = None
    """The number on the horizontal axis, where the rows of a table are points of a curve."""

    def __post_init__(self) -> None:
        """Refuse a figure that compares nothing."""
        if self.unit not in UNITS:
            raise ValueError(f"{self.case}: no unit {self.unit}")
        if self.base not in self.rounds:
            raise ValueError(f"{self.case}: {self.base}, the base, was not measured")
        if not any(name.startswith(OURS) for name in self.rounds):
            raise ValueError(f"{self.case}: nothing of ours was measured")
        if all(name.startswith(OURS) for name in self.rounds):
            raise ValueError(f"{self.case}: there is no contestant")
        if len({len(values) for values in self.rounds.values()}) != 1 or not self.number_of_rounds:
            raise ValueError(f"{self.case}: not everybody took part in every round")
        if any(value < 0 for values in self.rounds.values() for value in values):
            raise ValueError(f"{self.case}: a value is negative")
        if set(self.rounds) & set(self.absent):
            raise ValueError(f"{self.case}: who was measured is not absent")
        if not all(self.absent.values()):
            raise ValueError(f"{self.case}: somebody is absent without a reason")

    @property
    def number_of_rounds(self) -> int:
        return len(self.rounds[self.base])

    def middle(self, name: str) -> float:
        """The median of a contestant."""
        return median(self.rounds[name])

    def ratios(self, name: str) -> list[float]:
        """How many times the base's value a contestant's is, round by round, in order of size."""
        pairs = zip(self.rounds[name], self.rounds[self.base], strict=True)
        return sorted(own / base for own, base in pairs if base)


def keep(name: str, figures: Iterable[Figure], facts: Mapping[str, str]) -> None:
    """Write what a module has measured, with what it ran on, to a file of its name."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {"facts": facts, "figures": [asdict(figure) for figure in figures]}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def kept(path: Path) -> tuple[dict[str, str], list[Figure]]:
    """The facts and the figures of a file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["facts"], [Figure(**figure) for figure in content["figures"]]
