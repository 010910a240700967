"""Owns how ``top`` looks: a view as the lines of a terminal; must not know keys, nor the daemon.

Rich lays out tables and counts the cells that signs take. Its output never reaches the terminal:
the pieces it makes are written by ``ipsecd.output``, which escapes what others wrote.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.cells import set_cell_size
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ipsecctl.presentation import paint
from ipsecctl.top.feed import Known
from ipsecctl.top.view import COLUMNS, RULES, Column, Row, View, place_of, rate
from ipsecd.quoting import count, quote, visible

_AROUND = 4
"""Lines that are no rows: the title, a note, the header of the table, and the keys."""
_KEYS = {
    True: "tab sources  1-6 sort  / search  enter explain  space pause  q end",
    False: "tab rules  1-6 sort  / search  enter explain  space pause  q end",
}
_COLOURS = {"block": "red", "permit": "green", "audit": "yellow"}


def page_of(lines: int) -> int:
    """How many rows a terminal of so many lines shows."""
    return max(1, lines - _AROUND)


def frame(view: View, known: Known, rows: Sequence[Row], columns: int, lines: int) -> list[str]:
    """The lines of a terminal of that size: `rows` are those of the table, in their order."""
    note = known.problem or _note(view, known)
    colour = "yellow" if known.problem or note == known.no_sources else ""
    shown = [
        paint(_fit(_title(view, known, rows), columns), "bold"),
        paint(_fit(note, columns), colour) if colour else _fit(note, columns),
        *_table(view, rows, columns, page_of(lines)),
    ][: lines - 1]
    shown += [""] * (lines - 1 - len(shown))
    return [*shown, paint(_fit(_last_line(view), columns), "reverse")]


def frame_of_lines(
    title: str, texts: Iterable[str], rest: str, columns: int, lines: int
) -> list[str]:
    """The lines of a terminal that shows `texts`, each on as many lines as it needs.

    `rest` says where to read what does not fit.
    """
    console = _console(columns, lines)
    wrapped = [
        line.plain.rstrip()
        for text in texts
        for line in Text(visible(text)).wrap(console, columns, no_wrap=False)
    ]
    room = max(1, lines - 2)
    if len(wrapped) > room:
        wrapped = [*wrapped[: room - 1], rest]
    shown = [paint(_fit(title, columns), "bold"), *(_fit(line, columns) for line in wrapped)]
    shown += [""] * (lines - 1 - len(shown))
    return [*shown[: lines - 1], paint(_fit("enter back  q end", columns), "reverse")]


def _title(view: View, known: Known, rows: Sequence[Row]) -> str:
    every = len(known.rules) if view.table == RULES else len(known.sources)
    counted = count(every, view.table.removesuffix("s"))
    found = f"{len(rows):,} of {counted} with {quote(view.search)}" if view.search else counted
    total = rate(sum(row.rate or 0.0 for row in rows))
    order = view.order
    by = COLUMNS[view.table][order.column].title + (" backwards" if order.backwards else "")
    paused = "  PAUSED" if view.paused else ""
    return f"ipsecctl top  {found}, {total} packets/s  by {by}{paused}"


def _note(view: View, known: Known) -> str:
    """What has to be known to read the table rightly."""
    if known.no_sources and (view.table != RULES or not known.sources):
        return known.no_sources
    if view.table == RULES:
        broken = known.unparsable
        return f"{count(broken, 'packet')} dropped with unreadable headers" if broken else ""
    return (
        f"estimated from {known.reported:,} of {known.blocked:,} packets: those that are reported"
    )


def _last_line(view: View) -> str:
    if view.typing:
        return f"search: {view.search}_  enter keep  escape drop"
    return _KEYS[view.table == RULES]


def _table(view: View, rows: Sequence[Row], columns: int, page: int) -> list[str]:
    chosen = place_of(view, rows)
    # The chosen row is on the page, and the last page is full.
    first = max(0, min(chosen - page // 2, len(rows) - page))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, width=columns, expand=True)
    table.add_column(width=1)
    for number, column in enumerate(COLUMNS[view.table], start=1):
        _add_column(table, column, f"{number}")
    for place, row in enumerate(rows[first : first + page], start=first):
        cells = [_cell(column.cell(row)) for column in COLUMNS[view.table]]
        is_chosen = place == chosen
        mark = Text(">" if is_chosen else " ")
        table.add_row(mark, *cells, style="reverse" if is_chosen else "")
    console = _console(columns, page + 1)
    laid_out = console.render_lines(table, console.options, pad=False, new_lines=False)
    return ["".join(map(_painted, line)) for line in laid_out]


def _add_column(table: Table, column: Column, number: str) -> None:
    table.add_column(
        Text(f"{number} {column.title}"),
        width=column.width or None,
        ratio=None if column.width else 1,
        justify="right" if column.number else "left",
        no_wrap=True,
        overflow="ellipsis",
        header_style="bold",
    )


def _cell(text: str) -> Text:
    return Text(visible(text), style=_COLOURS.get(text, ""))


def _painted(segment: Segment) -> str:
    """A piece of a line that Rich has laid out, in the colours that are made in one place."""
    text, style = segment.text, segment.style or Style.null()
    if style.color and style.color.name in ("red", "green", "yellow"):
        text = paint(text, style.color.name)
    if style.bold:
        text = paint(text, "bold")
    return paint(text, "reverse") if style.reverse else text


def _console(columns: int, lines: int) -> Console:
    """What lays out for a terminal of that size, and writes nowhere."""
    return Console(
        file=io.StringIO(), width=columns, height=lines, force_terminal=True, legacy_windows=False,
        color_system="standard", markup=False, emoji=False, highlight=False,
    )  # fmt: skip


def _fit(text: str, columns: int) -> str:
    """`text` on one line of exactly so many cells."""
    return set_cell_size(visible(text), columns)
