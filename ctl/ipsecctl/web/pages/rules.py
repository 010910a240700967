"""Owns the rules in force with what they matched, and the dynamic ones with what they have left."""

from __future__ import annotations

from typing import Any

from ipsecctl.presentation import resolved
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import action, amount, few_codes, left, moment, size
from ipsecd.quoting import count

_FOREVER = float("inf")


async def make(sight: Sight) -> Content:
    """Every rule in force, by what it matched."""
    stats = await sight.daemon.ask("Stats")
    rules = stats["rules"]
    unparsable = stats["unparsable"]
    return [
        tag("p", f"{count(unparsable, 'packet')} dropped because their headers cannot be read.")
        if unparsable
        else None,
        _with_since(rules).shown(rules, sight.query),
    ]


async def make_dynamic(sight: Sight) -> Content:
    """Every dynamic rule: what it does, how long it has left, and who made it."""
    rules = (await sight.daemon.ask("ListDynamic"))["rules"]
    return _DYNAMIC.shown(rules, sight.query)


def rule_link(store: str, policy: str, rule: str) -> Content:
    """A rule, with a link to where it was written."""
    if store == "dynamic":
        return tag("a", rule, href=address("dynamic", q=rule))
    return tag("a", rule, href=address("policy", name=policy)) if policy else rule


def _rule(row: Any) -> Content:
    filters = row.get("filters") or []
    link = rule_link(row["store"], row["policy"], row["rule"])
    is_said = row["rule"] in filters
    return [
        link,
        tag("div", few_codes(filters, 3), class_="more") if filters and not is_said else None,
    ]


def _text(row: Any) -> str:
    return " ".join(
        (row["action"], row["rule"], row["store"], row["policy"], *(row.get("filters") or ()))
    )


_COLUMNS = (
    Column("action", "Action", lambda row: action(row["action"]), lambda row: row["action"]),
    Column("rule", "Rule", _rule, lambda row: row["rule"].lower()),
    Column(
        "policy", "Policy", lambda row: row["policy"] or row["store"],
        lambda row: (row["policy"] or row["store"]).lower(),
    ),
    Column(
        "packets", "Packets", lambda row: amount(row["packets"]), lambda row: row["packets"],
        is_number=True,
    ),
    Column(
        "bytes", "Bytes", lambda row: size(row["bytes"]), lambda row: row["bytes"], is_number=True
    ),
)  # fmt: skip


def _with_since(rules: list[Any]) -> Table:
    """The table, with when each rule's counting began if the daemon says so."""
    since = Column(
        "since", "Counted since", lambda row: _date(row.get("since")),
        lambda row: row.get("since") or "",
    )  # fmt: skip
    more = (since,) if any(row.get("since") for row in rules) else ()
    return Table(
        "rules", (*_COLUMNS, *more), "-packets",
        "No rule is in force: everything passes.", "rule", _text,
    )  # fmt: skip


def _date(text: str | None) -> Content:
    return tag("time", text[:19].replace("T", " "), datetime=text) if text else "-"


def _filters(row: Any) -> Markup:
    names = resolved(row)
    more = tag("div", names, class_="more") if names else None
    return tag("div", few_codes(row["filters"]), more)


_DYNAMIC = Table(
    "dynamic",
    (
        Column("action", "Action", lambda row: action(row["action"]), lambda row: row["action"]),
        Column("name", "Rule", lambda row: row["name"], lambda row: row["name"].lower()),
        Column("filters", "Filters", _filters),
        Column(
            "left", "Left", lambda row: left(row["remaining_s"]),
            lambda row: _FOREVER if row["remaining_s"] is None else row["remaining_s"],
        ),
        Column("links", "Interfaces", lambda row: row["interface"] or "all"),
        Column("when", "When", lambda row: row.get("when") or "always"),
        Column("by", "By", lambda row: row["by"], lambda row: row["by"]),
        Column(
            "created", "Since", lambda row: moment(row["created"]), lambda row: row["created"]
        ),
    ),
    "left",
    "There is no dynamic rule.",
    "rule",
    lambda row: " ".join((row["action"], row["name"], row["by"], *row["filters"])),
)  # fmt: skip

PAGE = Page("rules", "Rules", make, seconds=10)
DYNAMIC = Page("dynamic", "Dynamic rules", make_dynamic, seconds=10)
