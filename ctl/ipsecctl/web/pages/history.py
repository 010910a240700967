"""Owns the history: what was changed, when, by whom and why, the newest first."""

from __future__ import annotations

from typing import Any

from ipsecctl.history import author_of, source_of, what_of
from ipsecctl.web.markup import Content, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import moment


async def make(sight: Sight) -> Content:
    """All changes that are kept."""
    rows = (await sight.daemon.ask("GetHistory"))["rows"]
    return _TABLE.shown(rows, sight.query)


def _what(row: Any) -> Content:
    return [tag("div", line) for line in what_of(row)] or "-"


def _text(row: Any) -> str:
    return " ".join((author_of(row), source_of(row), row["message"], *what_of(row)))


_TABLE = Table(
    "history",
    (
        Column("number", "At", lambda row: moment(row["at"]), lambda row: row["number"]),
        Column("state", "State", lambda row: "" if row["state"] is None else f"@{row['state']}"),
        Column("who", "Who", author_of, author_of),
        Column("how", "How", source_of, source_of),
        Column("what", "What", _what),
        Column("why", "Why", lambda row: row["message"]),
    ),
    "-number",
    "Nothing has changed yet.",
    "change",
    _text,
)
PAGE = Page("history", "History", make, seconds=30)
