"""Owns the lists of addresses, and one of them with its entries and a way to look one up."""

from __future__ import annotations

from typing import Any

from ipsecctl.presentation import one_line, span
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.pages.rules import rule_link
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import ago, amount, code, facts, moment, notice
from ipsecd.errors import NotFound

_MOST_ENTRIES = 20_000
"""A list with more is asked about one address at a time."""


async def make(sight: Sight) -> Content:
    """All lists, with their age and what is wrong with them."""
    lists = (await sight.daemon.ask("ListLists"))["lists"]
    problems = [f"{each['name']}: {one_line(text)}" for each in lists for text in each["problems"]]
    return [
        notice("warn", "Something is wrong with lists", problems),
        _TABLE.shown(lists, sight.query),
    ]


async def make_one(sight: Sight) -> Content:
    """One list; if it is very long, only the entries that an address is in."""
    name, sought = sight.query.get("name", ""), sight.query.get("address", "").strip()
    known = (await sight.daemon.ask("ListLists"))["lists"]
    listed = next((each for each in known if each["name"] == name), None)
    if listed is None:
        raise NotFound(f"there is no list {name!r}", "choose one among the lists")
    form = _form(name, sought)
    is_long = listed["entries"] > _MOST_ENTRIES
    if is_long and not sought:
        many = (
            f"It has {amount(listed['entries'])} entries. Look an address up to see those it is in."
        )
        return [_facts(listed, sight.now), form, tag("p", many)]
    reply = await sight.daemon.ask("GetList", name=name, address=sought or None)
    ends = {each["entry"]: each["ends"] for each in reply["ending"]}
    rows = [{"entry": entry, "ends": ends.get(entry)} for entry in reply["entries"]]
    return [
        _facts(listed, sight.now),
        notice("warn", "Something is wrong with it", listed["problems"]),
        form,
        _found(sought, rows),
        _entries(sought).shown(rows, sight.query),
    ]


def _facts(listed: dict[str, Any], now: float) -> Markup:
    rules = [
        tag("div", rule_link(rule["store"], rule["policy"], rule["rule"]))
        for rule in listed["rules"]
    ]
    kinds = f"{amount(listed['ipv4'])} of IPv4, {amount(listed['ipv6'])} of IPv6"
    every = listed["every_s"]
    return facts(
        ("List", code(f"@{listed['name']}")),
        ("Entries", f"{amount(listed['entries'])}: {kinds}"),
        ("With an end", _ending(listed, now) if listed["ending"] else None),
        ("From", _origin(listed)),
        ("Fetched", _age(listed, now) if listed["url"] else None),
        ("Every", span(every) if every is not None else None),
        ("Asked for", ago(listed["checked"], now) if listed["url"] else None),
        ("Named by", rules or "no rule in force"),
    )


def _ending(listed: dict[str, Any], now: float) -> str:
    ends = listed["ends"]
    following = "" if ends is None else f", the next in {span(max(0.0, ends - now))}"
    return f"{amount(listed['ending'])}{following}"


def _form(name: str, sought: str) -> Markup:
    return tag(
        "form",
        tag("input", type="hidden", name="name", value=name),
        tag("label", "Address", for_="address"),
        tag(
            "input", type="text", name="address", id="address", value=sought, maxlength="100",
            placeholder="203.0.113.7", autocomplete="off", spellcheck="false",
        ),
        tag("button", "Look up"),
        class_="search", action=address("list"), method="get",
    )  # fmt: skip


def _found(sought: str, rows: list[dict[str, Any]]) -> Content:
    if not sought:
        return None
    kind = "bad" if rows else "good"
    words = "is in these entries:" if rows else "is in no entry of this list."
    return tag("p", tag("span", sought, class_=f"mark {kind}"), f" {words}")


def _origin(listed: Any) -> Content:
    if listed.get("domain"):
        return "the domain"
    where = listed["url"] or listed["path"]
    return code(where) if where else "entries that were added"


def _age(listed: Any, now: float) -> str:
    return ago(listed["fetched"], now, "the domain" if listed.get("domain") else "never")


def _rules(row: Any) -> Content:
    names = [rule["rule"] for rule in row["rules"]]
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more or "no rule in force"


def _name(row: Any) -> Content:
    wrong = tag("span", "problem", class_="mark warn") if row["problems"] else None
    return [tag("a", f"@{row['name']}", href=address("list", name=row["name"])), wrong]


_TABLE = Table(
    "lists",
    (
        Column("name", "List", _name, lambda row: row["name"].lower()),
        Column(
            "entries", "Entries", lambda row: amount(row["entries"]), lambda row: row["entries"],
            is_number=True,
        ),
        Column(
            "ending", "With an end", lambda row: amount(row["ending"]) if row["ending"] else "-",
            lambda row: row["ending"], is_number=True,
        ),
        Column("from", "From", _origin),
        Column(
            "fetched", "Fetched", lambda row: moment(row["fetched"]),
            lambda row: row["fetched"] or 0.0,
        ),
        Column("rules", "Named by", _rules),
    ),
    "name",
    "There is no list.",
    "list",
    lambda row: f"{row['name']} {row['url'] or ''} {row['path'] or ''}",
)  # fmt: skip


def _entries(sought: str) -> Table:
    """The table of the entries; what is looked up leaves out what the address is not in."""
    columns = (
        Column("entry", "Entry", lambda row: code(row["entry"])),
        Column(
            "ends", "Ends", lambda row: moment(row["ends"], "for good"),
            lambda row: row["ends"] or float("inf"),
        ),
    )  # fmt: skip
    none = "No entry has it." if sought else "The list is empty."
    text = None if sought else lambda row: str(row["entry"])
    return Table("list", columns, "", none, "entry", text, ("name", "address"))


PAGE = Page("lists", "Lists", make)
ONE = Page("list", "List", make_one, under="lists")
