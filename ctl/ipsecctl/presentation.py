"""Owns how things look in a terminal: columns, colour, times; must not know what they are."""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any, TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_SPANS_S = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in `colour`, if `stream` (stdout) is a terminal that shows colours."""
    out = stream or sys.stdout
    if not out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def paint_action(action: str) -> str:
    """An action in the colour it always has."""
    return paint(action, "red" if action == "block" else "green")


def count(number: int, noun: str) -> str:
    """``1 rule``, ``2 rules``, ``2 policies``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def span(seconds: float) -> str:
    """A length of time by its two largest units: ``9m 58s``."""
    left = max(0, round(seconds))
    parts = []
    for size, unit in _SPANS_S:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2]) or "0s"


def print_json(value: Any) -> None:
    """Print `value` for programs to read, on lines for people to read too."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print rows of plain text in columns; a cell ``block`` or ``permit`` has its colour."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(paint(_line(header, widths), "bold"))
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        for n, cell in enumerate(row):
            if cell in ("block", "permit"):
                cells[n] = paint_action(cell) + cells[n][len(cell) :]
        print("  ".join(cells).rstrip())


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()


def outcome_line(outcome: dict[str, Any]) -> str:
    """What a change did, and what is assigned after it, as the daemon says."""
    assigned = outcome.get("assigned")
    now = f"assigned: {assigned!r}" if assigned else "no policy is assigned"
    message = str(outcome["message"]).rstrip(".")
    if message == now or (assigned and message.startswith(f"policy {assigned!r} is assigned")):
        return message
    return f"{message}\n{now}" if "\n" in message else f"{message} · {now}"


def print_outcome(outcome: dict[str, Any], *, as_json: bool) -> None:
    """Print what a change did."""
    if as_json:
        print_json(outcome)
    else:
        print(outcome_line(outcome))
