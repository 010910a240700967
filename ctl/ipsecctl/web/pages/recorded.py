"""Owns what the daemon has recorded of drops: over time, and by whom; must not know other pages."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from ipsecctl.web.asking import NotTold
from ipsecctl.web.charts import Line, Point, rates
from ipsecctl.web.markup import Content, tag
from ipsecctl.web.pages.page import Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import action, amount, code
from ipsecd.errors import IpsecdError
from ipsecd.quoting import count

_TITLE = tag("h2", "Dropped, as the daemon has recorded it")


async def recorded(sight: Sight, start: float) -> Content:
    """What was dropped since `start`; nothing if this daemon records nothing."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
    try:
        drops = await sight.daemon.ask("Drops", since=since)
    except NotTold:
        return None
    except IpsecdError as error:
        return [_TITLE, tag("p", error.message, class_="none")]
    lost = f", {amount(drops['lost'])} of them not seen one by one" if drops["lost"] else ""
    return [
        _TITLE,
        _drawing(drops, start, sight.now) if drops["periods"] else None,
        tag("p", f"{count(drops['blocked'], 'packet')} dropped{lost}."),
        _SOURCES.shown(drops["sources"], sight.query),
    ]


def _drawing(drops: dict[str, Any], start: float, end: float) -> Content:
    """A line for each action; what counters do not say is as much as was seen."""
    seconds = drops["period_s"]
    found: dict[str, dict[float, int]] = {}
    for period in drops["periods"]:
        at = datetime.fromisoformat(period["at"]).timestamp() + seconds
        number = period["seen"] if period["packets"] is None else period["packets"]
        row = found.setdefault(period["action"], {})
        row[at] = row.get(at, 0) + number
    lines = [
        Line(name, [Point(at, seconds, number) for at, number in sorted(row.items())])
        for name, row in sorted(found.items())
    ]
    keys = tag("ul", [tag("li", action(line.name)) for line in lines], class_="key")
    drawn = rates(lines, start, end, "Packets a second that were dropped, as recorded")
    return tag("figure", drawn, tag("figcaption", "Packets a second.", keys))


def _rule(row: Any) -> Content:
    return [row["rule"] or "not known", tag("div", row["policy"] or row["store"], class_="more")]


_SOURCES = Table(
    "counts",
    (
        Column("source", "Source", lambda row: code(row["source"]), lambda row: row["source"]),
        Column("action", "Action", lambda row: action(row["action"]), lambda row: row["action"]),
        Column("rule", "Rule", _rule, lambda row: row["rule"] or ""),
        Column(
            "packets", "Packets", lambda row: amount(row["packets"]), lambda row: row["packets"],
            is_number=True,
        ),
        Column(
            "last", "Last, UTC", lambda row: row["last"][:19].replace("T", " "),
            lambda row: row["last"],
        ),
    ),
    "-packets",
    "No source was seen to be dropped in that time.",
    "source",
    lambda row: f"{row['source']} {row['rule'] or ''} {row['policy'] or ''}",
    ("span",),
)  # fmt: skip
