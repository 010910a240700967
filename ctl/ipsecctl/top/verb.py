"""Owns the verb ``top``: whether a terminal is there, and one table for those who have none."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecctl.presentation import print_table
from ipsecctl.top.feed import Feed, Known
from ipsecctl.top.view import COLUMNS, RULES, SOURCES, Row, View, rows_of
from ipsecd.errors import IpsecdError
from ipsecd.output import can_draw, complain, say, say_json

ONCE_S = 1.0
"""How long packets are counted for one table."""
MOST_SOURCES = 20
"""How many sources people see in one table."""


def run(client: Client, options: Options) -> int:
    """Show rules and sources by packets a second, or with ``--once`` print them."""
    if options.has("--once"):
        return _once(client, as_json=options.has("--json"))
    if options.has("--json"):
        raise UsageError("--json is for one table", "write: ipsecctl top --once --json")
    if not can_draw():
        raise UsageError(
            "top needs a terminal that can place text, for input and output",
            "write 'ipsecctl top --once' for one table; 'ipsecctl stats' has the counters, and "
            "'ipsecctl monitor' a line for each packet",
        )
    try:
        from ipsecctl.top.live import look
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise IpsecdError(
            "top needs the Python library Rich, which is not installed",
            "install the package python3-rich; 'ipsecctl top --once' does without",
        ) from error
    return look(client)


def _once(client: Client, *, as_json: bool) -> int:
    feed = Feed(client.path, threading.Event().set)
    feed.count(client)
    feed.listen()
    time.sleep(ONCE_S)
    feed.count(client)
    known = feed.known()
    feed.close()
    if as_json:
        say_json(_fields(known))
    else:
        _print(known)
    return DONE


def _print(known: Known) -> None:
    rules = rows_of(View(), known.rules)
    if rules:
        print_table(*_cells(RULES, rules))
    else:
        say("no rule is in force, so nothing is counted")
    sources = rows_of(View(table=SOURCES), known.sources)
    if sources:
        say("", f"sources, estimated from {known.reported:,} of {known.blocked:,} packets:")
        print_table(*_cells(SOURCES, sources[:MOST_SOURCES]))
    if len(sources) > MOST_SOURCES:
        say(f"and {len(sources) - MOST_SOURCES:,} more sources")
    if known.no_sources:
        complain(f"warning: sources are not known: {known.no_sources}")


def _cells(table: str, rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns = COLUMNS[table]
    texts = [tuple(column.cell(row) for column in columns) for row in rows]
    header = tuple(column.title for column in columns)
    widths = [
        max(len(row[at]) for row in (header, *texts)) if column.number else 0
        for at, column in enumerate(columns)
    ]
    return tuple(map(str.rjust, header, widths)), [
        tuple(map(str.rjust, row, widths)) for row in texts
    ]


def _fields(known: Known) -> dict[str, Any]:
    """All of it for programs; rates are packets a second."""
    return {
        "seconds": ONCE_S,
        "rules": [asdict(row) for row in rows_of(View(), known.rules)],
        "sources": [asdict(row) for row in rows_of(View(table=SOURCES), known.sources)],
        "blocked": known.blocked,
        "lost": known.lost,
        "no_sources": known.no_sources or None,
    }
