"""Owns the cells of the table of links: what came out of a run, kept as lines of JSON.

The directory is that of the environment variable ``IPSECD_LINK_RESULTS``; without one nothing is
kept. A cell that is tried again replaces the one before.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.links.probes import BLOCKED, COUNT, DIRECTIONS, OPEN, Probe

VARIABLE = "IPSECD_LINK_RESULTS"
BEFORE = ", there before the daemon"
"""The end of a link's name in the table if the link was made before the daemon started."""
HELD, NOT_HELD, NOT_POSSIBLE = "held", "not held", "not possible here"


@dataclass(frozen=True)
class Cell:
    """What came out for packets of one direction on one kind of link; ``why`` says more."""

    link: str
    kernel: str
    backend: str
    direction: str
    outcome: str
    why: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.link, self.kernel, self.backend, self.direction

    def __str__(self) -> str:
        return f"{self.outcome}: {self.why}" if self.why else self.outcome


def version() -> tuple[int, int]:
    """The version of this kernel, as (6, 1)."""
    major, minor, *_ = platform.release().split(".")
    return int(major), int(minor)


def kernel() -> str:
    """The version of this kernel, as ``6.1``."""
    major, minor = version()
    return f"{major}.{minor}"


LACKING = ("Unknown device type", "Operation not supported", "Requested ")
"""What the kernel says first when it has no such link, bridge or cipher at all."""


def excuse(reason: str, since: tuple[int, int] = (0, 0)) -> NoReturn:
    """Skip what this kernel lacks; fail where it must not: Debian's have every link of their time.

    `since` is the first kernel that has it.
    """
    if "Debian" in platform.version() and version() >= since:
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Fault:
    """What should not be, for packets of one direction."""

    direction: str
    text: str
    leak: bool = True


def faults(came: Mapping[Probe, int]) -> list[Fault]:
    """A blocked port that something came to, and an open one that did not get all."""
    said = []
    for probe, count in came.items():
        leak = probe.port in BLOCKED[probe.direction]
        if (leak and count) or (probe.port == OPEN and count < COUNT):
            text = f"{probe}, {'blocked' if leak else 'open'}: {count} of {COUNT} came through"
            said.append(Fault(probe.direction, text, leak))
    return said


def record(link: str, backend: str, faults: Iterable[Fault], lacking: str = "") -> None:
    """Keep the cells of both directions. `lacking` says why nothing could be tried."""
    cells = []
    for direction in DIRECTIONS:
        why = lacking or "; ".join(fault.text for fault in faults if fault.direction == direction)
        outcome = NOT_POSSIBLE if lacking else NOT_HELD if why else HELD
        cells.append(Cell(link, kernel(), backend, direction, outcome, why))
    write(cells)


def write(cells: Iterable[Cell]) -> None:
    if VARIABLE in os.environ:
        path = Path(os.environ[VARIABLE])
        path.mkdir(parents=True, exist_ok=True)
        with (path / f"{kernel()}.jsonl").open("a") as file:
            file.writelines(json.dumps(asdict(cell)) + "\n" for cell in cells)


def read(directory: Path) -> list[Cell]:
    """The cells of all runs, the last of each."""
    last = {}
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            cell = Cell(**json.loads(line))
            last[cell.key] = cell
    return list(last.values())
