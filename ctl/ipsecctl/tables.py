"""Owns how rows of text become a table; on a terminal, one that is no wider than it."""

from __future__ import annotations

from itertools import zip_longest

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GAP = "  "
_SAYS_NOTHING = frozenset({"-", "all", "always"})
"""What stands in a cell where a rule asks for nothing."""

Row = tuple[str, ...]


def laid_out(header: Row, rows: Sequence[Row], columns: int | None) -> Iterator[Row]:
    """The lines of a table as cells, each as wide as its column; the first is the header.

    Where there are so many `columns` and not any number of them, columns that say nothing of any
    row are left out, and cells with blanks in them go on in the next line. No word is cut apart:
    so a table can still be wider than the terminal.
    """
    if columns is not None:
        header, rows = _telling(header, rows)
    cells = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if columns is not None:
        least = [max(map(_longest_word, column)) for column in zip(*cells, strict=True)]
        widths = _narrowed(widths, least, columns - len(GAP) * (len(widths) - 1))
    for row in cells:
        parts = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in zip_longest(*parts, fillvalue=""):
            yield tuple(part.ljust(width) for part, width in zip(line, widths, strict=True))


def _telling(header: Row, rows: Sequence[Row]) -> tuple[Row, Sequence[Row]]:
    """The columns in which any row says something."""
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    kept = [n for n, column in enumerate(columns) if not _SAYS_NOTHING.issuperset(column)]
    return tuple(header[n] for n in kept), [tuple(row[n] for n in kept) for row in rows]


def _longest_word(cell: str) -> int:
    return max(map(len, cell.split()), default=0)


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    """Widths that together take no more than the `room`, as far as no word is cut apart.

    The widest column is narrowed first, as it has the most to give.
    """
    widths = list(widths)
    while (excess := sum(widths) - room) > 0:
        able = [n for n, width in enumerate(widths) if width > least[n]]
        if not able:
            break
        widest = max(able, key=lambda n: widths[n])
        others = [widths[n] for n in able if widths[n] < widths[widest]]
        floor = max(least[widest], max(others, default=0))
        step = min(excess, max(widths[widest] - floor, 1))
        widths[widest] -= step
    return widths


def _wrapped(cell: str, width: int) -> list[str]:
    """The lines of a cell, of which none is wider than that unless it is a single word."""
    if len(cell) <= width:
        return [cell]
    lines: list[str] = []
    for word in cell.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
