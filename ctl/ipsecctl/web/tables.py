"""Owns tables that are sorted, searched and leafed through by links; must not know what is in them.

It works without a script: each order and each page is an address of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipsecctl.web.markup import Address, Content, Markup, address, tag
from ipsecd.quoting import count

ROWS = 200
"""Rows on a page: as many as a phone shows at once without waiting."""
_DOWN = "-"

Query = Mapping[str, str]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in an address, its title, and what a row has in it.

    With `order`, a function that gives what is compared, the table can be sorted by it. Numbers are
    sorted from the largest on.
    """

    key: str
    title: str
    cell: Callable[[Row], Content]
    order: Callable[[Row], Any] | None = None
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table on the page at `path`; `sort` is its order if no other is asked for.

    `text` gives what of a row is searched. `kept` are parameters of the page that its links keep,
    and `none` is said where there is no row.
    """

    path: str
    columns: Sequence[Column]
    sort: str
    none: str
    noun: str = "row"
    text: Callable[[Row], str] | None = None
    kept: tuple[str, ...] = ()

    def shown(self, rows: Sequence[Row], query: Query) -> Markup:
        """The rows that the query asks for, and the links to all others."""
        if not rows:
            return tag("p", self.none, class_="none")
        sought = query.get("q", "").strip().lower()
        found = [row for row in rows if self._has(row, sought)]
        ordered = self._ordered(found, query)
        last = max(0, (len(ordered) - 1) // ROWS)
        number = min(_number(query.get("page", "")), last)
        part = ordered[number * ROWS : (number + 1) * ROWS]
        head = tag("tr", [self._title(column, query) for column in self.columns])
        body = [tag("tr", [_cell(column, row) for column in self.columns]) for row in part]
        return tag(
            "section",
            self._search(query) if self.text is not None and len(rows) > 1 else None,
            tag("table", tag("thead", head), tag("tbody", body))
            if part
            else tag("p", "nothing here has that text in it", class_="none"),
            self._pager(number, last, len(part), len(ordered), query),
        )

    def _has(self, row: Row, sought: str) -> bool:
        return not sought or self.text is None or sought in self.text(row).lower()

    def _ordered(self, rows: list[Row], query: Query) -> list[Row]:
        name, down = self._order(query)
        for column in self.columns:
            if column.key == name and column.order is not None:
                return sorted(rows, key=column.order, reverse=down)
        return rows

    def _order(self, query: Query) -> tuple[str, bool]:
        asked = query.get("sort", "")
        known = {column.key for column in self.columns if column.order is not None}
        chosen = asked if asked.removeprefix(_DOWN) in known else self.sort
        return chosen.removeprefix(_DOWN), chosen.startswith(_DOWN)

    def _title(self, column: Column, query: Query) -> Markup:
        kind = "number" if column.is_number else None
        if column.order is None:
            return tag("th", column.title, class_=kind, scope="col")
        name, down = self._order(query)
        is_this = name == column.key
        first = _DOWN if column.is_number else ""
        other = "" if down else _DOWN
        link = self._link(query, sort=f"{other if is_this else first}{column.key}")
        sign = (" ▼" if down else " ▲") if is_this else None
        order = ("descending" if down else "ascending") if is_this else None
        return tag(
            "th",
            tag("a", column.title, sign, href=link),
            class_=kind,
            scope="col",
            aria_sort=order,
        )

    def _search(self, query: Query) -> Markup:
        hidden = [
            tag("input", type="hidden", name=name, value=query[name])
            for name in ("sort", *self.kept)
            if query.get(name)
        ]
        field = tag(
            "input", type="search", name="q", value=query.get("q", ""), placeholder="text in a row",
            aria_label="Show only rows with this text", maxlength="200",
        )  # fmt: skip
        return tag(
            "form", hidden, field, tag("button", "Find"),
            class_="search", role="search", action=address(self.path), method="get",
        )  # fmt: skip

    def _pager(self, number: int, last: int, shown: int, found: int, query: Query) -> Markup:
        if not last:
            return tag("p", count(found, self.noun), class_="pager")
        first = number * ROWS + 1
        before = self._leaf("before", number - 1, query) if number else None
        after = self._leaf("after", number + 1, query) if number < last else None
        where = f"{first:,} to {first + shown - 1:,} of {count(found, self.noun)}"
        return tag("p", before, tag("span", where), after, class_="pager")

    def _leaf(self, text: str, number: int, query: Query) -> Markup:
        sort = query.get("sort")
        return tag("a", text, href=self._link(query, sort=sort, page=str(number)))

    def _link(self, query: Query, **changes: str | None) -> Address:
        kept = {name: query.get(name) for name in ("q", *self.kept)}
        return address(self.path, **kept, **changes)


def _cell(column: Column, row: Row) -> Markup:
    kind = "number" if column.is_number else None
    return tag("td", column.cell(row), class_=kind, data_label=column.title)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0
