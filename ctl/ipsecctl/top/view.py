"""Owns what a person looks at in ``top``, and what each key changes of it; draws and asks nothing.

A view is immutable: a key makes the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ipsecctl.top.rates import RuleRate, Sight, SourceRate

Row = RuleRate | SourceRate
Key = tuple[str, str, str] | str
"""What tells a row from all others of its table."""

RULES, SOURCES = "rules", "sources"
_LONGEST_SEARCH = 100


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, what it sorts by, and its cells.

    `width` is in cells of a terminal, of which each sign takes one or two; 0 is a share of what is
    left. Numbers stand at the right, and are greatest first.
    """

    title: str
    width: int
    sort_by: Callable[[Row], float | str]
    shown: Callable[[Row], str] | None = None
    number: bool = False

    def cell(self, row: Row) -> str:
        """What is shown of `row`."""
        return self.shown(row) if self.shown else str(self.sort_by(row)) or "-"


def amount(number: float) -> str:
    """A number of packets in few characters, and never only some of its digits."""
    if number >= 1e15:
        return f"{number:.2e}"
    for size, unit in ((1e12, "T"), (1e9, "G")):
        if number >= size * 10:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Packets a second; with a decimal where they are few."""
    if number is None:
        return "-"
    return f"{number:.1f}" if 0 < number < 9.95 else amount(number)


def decided(row: Row) -> RuleRate | Sight:
    """The rule of a row; of a source that which decided about its last packet."""
    return row.last if isinstance(row, SourceRate) else row


_RATE = Column("RATE/s", 10, lambda row: -1.0 if row.rate is None else row.rate,
               lambda row: rate(row.rate), number=True)  # fmt: skip
_PACKETS = Column("PACKETS", 14, lambda row: row.packets, lambda row: amount(row.packets),
                  number=True)  # fmt: skip
_ACTION = Column("ACTION", 8, lambda row: decided(row).action)
_STORE = Column("STORE", 8, lambda row: decided(row).store)
_POLICY = Column("POLICY", 0, lambda row: decided(row).policy)
_RULE = Column("RULE", 0, lambda row: decided(row).rule)
_SOURCE = Column("SOURCE", 0, lambda row: str(row.key))

COLUMNS: dict[str, tuple[Column, ...]] = {
    RULES: (_RATE, _PACKETS, _ACTION, _STORE, _POLICY, _RULE),
    SOURCES: (
        replace(_RATE, title="~RATE/s"), replace(_PACKETS, title="~PACKETS"), _ACTION, _SOURCE,
        replace(_POLICY, title="LAST POLICY"), replace(_RULE, title="LAST RULE"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, counted from 0, a table is sorted, and whether backwards."""

    column: int = 0
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at: the table, its order, what is searched for, which row is chosen.

    `chosen` is None as long as nobody has moved: then it is the first row, whichever that is.
    `typing` while a search is typed, `explaining` the row that is explained.
    """

    table: str = RULES
    orders: dict[str, Order] = field(default_factory=lambda: {RULES: Order(), SOURCES: Order()})
    chosen: Key | None = None
    search: str = ""
    typing: bool = False
    paused: bool = False
    explaining: Row | None = None
    ended: bool = False

    @property
    def order(self) -> Order:
        """The order of the table that is looked at."""
        return self.orders[self.table]


def rows_of(view: View, rows: Sequence[Row]) -> list[Row]:
    """Those of `rows` that are searched for, in the order of the view."""
    column = COLUMNS[view.table][view.order.column]
    wanted = view.search.casefold()
    if wanted:
        cells = [each.cell for each in COLUMNS[view.table] if not each.number]
        rows = [row for row in rows if any(wanted in cell(row).casefold() for cell in cells)]
    # Sorting is stable: among equals those that have matched most stand first.
    ordered = sorted(rows, key=lambda row: (-row.packets, row.key))
    backwards = column.number is not view.order.backwards
    return sorted(ordered, key=column.sort_by, reverse=backwards)


def place_of(view: View, rows: Sequence[Row]) -> int:
    """Where the chosen row stands among `rows` in their order; 0 if it is not among them."""
    if view.chosen is None:
        return 0
    return next((place for place, row in enumerate(rows) if row.key == view.chosen), 0)


def pressed(view: View, key: str, rows: Sequence[Row], page: int) -> View:
    """The view after `key`; `rows` are those of the table in their order, `page` how many show."""
    if view.typing:
        return _typed(view, key)
    if view.explaining is not None:
        if key in ("escape", "enter", "backspace"):
            return replace(view, explaining=None)
        return replace(view, ended=True) if key == "q" else view
    if key in _MOVES and rows:
        place = _MOVES[key](place_of(view, rows), page, len(rows))
        return replace(view, chosen=rows[min(max(0, place), len(rows) - 1)].key)
    if key == "enter" and rows:
        return replace(view, explaining=rows[place_of(view, rows)])
    if key.isdecimal() and key.isascii() and 1 <= int(key) <= len(COLUMNS[view.table]):
        same = view.order.column == int(key) - 1
        order = Order(int(key) - 1, same and not view.order.backwards)
        return replace(view, orders={**view.orders, view.table: order})
    match key:
        case "q":
            return replace(view, ended=True)
        case " ":
            return replace(view, paused=not view.paused)
        case "/":
            return replace(view, typing=True)
        case "escape":
            return replace(view, search="")
        case "tab" | "s" | "r":
            other = {"s": SOURCES, "r": RULES}.get(key, RULES if view.table == SOURCES else SOURCES)
            return view if other == view.table else replace(view, table=other, chosen=None)
    return view


def _typed(view: View, key: str) -> View:
    """The view after `key` while a search is typed."""
    match key:
        case "enter":
            return replace(view, typing=False)
        case "escape":
            return replace(view, typing=False, search="")
        case "backspace":
            return replace(view, search=view.search[:-1])
    if len(key) == 1 and len(view.search) < _LONGEST_SEARCH:
        return replace(view, search=view.search + key, chosen=None)
    return view


_MOVES: dict[str, Callable[[int, int, int], int]] = {
    "up": lambda place, _page, _all: place - 1,
    "down": lambda place, _page, _all: place + 1,
    "page up": lambda place, page, _all: place - page,
    "page down": lambda place, page, _all: place + page,
    "home": lambda _place, _page, _all: 0,
    "end": lambda _place, _page, all_rows: all_rows - 1,
}
