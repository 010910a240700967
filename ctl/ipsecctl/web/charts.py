"""Owns drawings of numbers over time, as SVG in a page; must not know what they count.

Colours and fonts are those of the style sheet, by class: nothing is styled in the drawing itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ipsecctl.web.markup import Markup, tag

_WIDTH, _HEIGHT = 900, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 12, 16, 40
_COLUMNS = 120
"""Points of a line: more are not told apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """How many packets a second there were for so many seconds up to `at`, a time of the epoch."""

    at: float
    seconds: float
    number: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, which is also its class in the style sheet, and its points in order."""

    name: str
    points: Sequence[Point]


def rates(lines: Sequence[Line], start: float, end: float, title: str) -> Markup:
    """Packets a second from `start` to `end`, a line for each of `lines`."""
    drawn = [(line.name, _averages(line.points, start, end)) for line in lines]
    top = _nice(max((rate for _, row in drawn for rate in row if rate is not None), default=0.0))
    marks = [_mark(top * part / 4, top) for part in range(5)]
    times = [_time(start, end, part) for part in range(5)]
    paths = [_path(name, row, top) for name, row in drawn]
    return tag(
        "svg",
        tag("title", title),
        marks,
        times,
        paths,
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
    )


def _averages(points: Sequence[Point], start: float, end: float) -> list[float | None]:
    """The rate in each column of the drawing; None where nothing is known."""
    packets, seconds = [0.0] * _COLUMNS, [0.0] * _COLUMNS
    width = max(end - start, 1e-9) / _COLUMNS
    for point in points:
        first = max(0, math.floor((point.at - point.seconds - start) / width))
        last = min(_COLUMNS - 1, math.ceil((point.at - start) / width) - 1)
        share = point.number / max(point.seconds, 1e-9)
        for column in range(first, last + 1):
            since = max(point.at - point.seconds, start + column * width)
            known = max(0.0, min(point.at, start + (column + 1) * width) - since)
            packets[column] += share * known
            seconds[column] += known
    return [p / s if s > width / 100 else None for p, s in zip(packets, seconds, strict=True)]


def _nice(number: float) -> float:
    """The least of 4, 8, 20, 40, 80 … that is not below `number`."""
    if number <= 4:
        return 4.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(step * power for step in (2, 4, 8, 20) if step * power >= number)


def _path(name: str, row: list[float | None], top: float) -> Markup:
    """A line in steps, with gaps where nothing is known."""
    words, is_drawing = [], False
    for column, rate in enumerate(row):
        if rate is None:
            is_drawing = False
            continue
        left, right, height = _x(column), _x(column + 1), _y(rate, top)
        words.append(f"{'L' if is_drawing else 'M'}{left:.1f} {height:.1f}H{right:.1f}")
        is_drawing = True
    return tag("path", class_=f"line {name}", d="".join(words))


def _mark(number: float, top: float) -> Markup:
    height = f"{_y(number, top):.1f}"
    text = _short(number)
    return tag(
        "g",
        tag("line", class_="grid", x1=str(_LEFT), x2=str(_WIDTH - _RIGHT), y1=height, y2=height),
        tag("text", text, class_="mark end", x=str(_LEFT - 8), y=height, dy="0.32em"),
    )


def _short(number: float) -> str:
    """A round number in few characters: ``500``, ``2k``, ``1.5M``."""
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.0f}T"


def _time(start: float, end: float, part: int) -> Markup:
    at = start + (end - start) * part / 4
    form = "%H:%M" if end - start >= 3600 else "%H:%M:%S"
    side = {0: "mark", 4: "mark end"}.get(part, "mark middle")
    x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * part / 4
    text = time.strftime(form, time.localtime(at))
    return tag("text", text, class_=side, x=f"{x:.1f}", y=str(_HEIGHT - 8))


def _x(column: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * column / _COLUMNS


def _y(rate: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * rate / top
