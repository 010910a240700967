"""Owns the policies that are stored, and one of them with its document and its counts."""

from __future__ import annotations

from typing import Any

from ipsecctl.presentation import one_line
from ipsecctl.web.asking import Daemon
from ipsecctl.web.markup import Content, address, lines, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import action, amount, facts, size, trouble
from ipsecd.errors import IpsecdError, NotFound


async def make(sight: Sight) -> Content:
    """All policies, and which is in force."""
    policies = (await sight.daemon.ask("ListPolicies"))["policies"]
    return _TABLE.shown(policies, sight.query)


async def make_one(sight: Sight) -> Content:
    """One policy: whether it is in force, what its rules matched, its document."""
    name = sight.query.get("name", "")
    if not name:
        raise NotFound("no policy was named", "choose one among the policies")
    stored = await sight.daemon.ask("GetPolicy", name=name)
    overriding = stored["overriding"]
    return [
        facts(
            ("Policy", name),
            ("It is", _state(stored)),
            ("In its place", overriding),
            ("Stored in", tag("code", stored["path"])),
        ),
        tag("h2", "What its rules matched"),
        await _counts(sight.daemon, name, sight),
        tag("h2", "Document"),
        tag("pre", lines(stored["document"])),
    ]


def _state(stored: dict[str, Any]) -> Content:
    if stored["store"] == "domain":
        return tag("span", "in force, from the domain", class_="mark good")
    if not stored["assigned"]:
        return "not assigned"
    if stored["overriding"] is not None:
        return tag("span", "assigned, without effect", class_="mark warn")
    return tag("span", "assigned", class_="mark good")


async def _counts(daemon: Daemon, name: str, sight: Sight) -> Content:
    try:
        rules = (await daemon.ask("Stats"))["rules"]
    except IpsecdError as error:
        return trouble(error)
    return _COUNTS.shown([rule for rule in rules if rule["policy"] == name], sight.query)


def _of_policy(row: Any) -> Content:
    # A daemon that is older knows of no audit.
    audit = tag("span", "its blocks only count", class_="mark warn") if row.get("audit") else None
    return [_in_force(row), audit]


def _in_force(row: Any) -> Content:
    if row["error"]:
        return tag("span", "unusable", class_="mark bad")
    if row["store"] == "domain":
        return tag("span", "in force", class_="mark good")
    return tag("span", "assigned", class_="mark good") if row["assigned"] else "-"


def _name(row: Any) -> Content:
    if row["error"]:
        return [row["name"], tag("div", one_line(row["error"]), class_="more")]
    more = tag("div", row["description"], class_="more") if row["description"] else None
    return [tag("a", row["name"], href=address("policy", name=row["name"])), more]


_TABLE = Table(
    "policies",
    (
        Column("state", "State", _of_policy, lambda row: (not row["assigned"], not row["error"])),
        Column("name", "Policy", _name, lambda row: row["name"].lower()),
        Column("store", "Store", lambda row: row["store"], lambda row: row["store"]),
        Column(
            "rules", "Rules", lambda row: amount(row["rules"]), lambda row: row["rules"],
            is_number=True,
        ),
        Column(
            "filters", "Filters", lambda row: amount(row["filters"]), lambda row: row["filters"],
            is_number=True,
        ),
        Column("path", "File", lambda row: tag("code", row["path"])),
    ),
    "state",
    "No policy is stored.",
    "policy",
    lambda row: f"{row['name']} {row['description']} {row['path']}",
)  # fmt: skip

_COUNTS = Table(
    "policy",
    (
        Column("action", "Action", lambda row: action(row["action"]), lambda row: row["action"]),
        Column("rule", "Rule", lambda row: row["rule"], lambda row: row["rule"].lower()),
        Column(
            "packets", "Packets", lambda row: amount(row["packets"]), lambda row: row["packets"],
            is_number=True,
        ),
        Column(
            "bytes", "Bytes", lambda row: size(row["bytes"]), lambda row: row["bytes"],
            is_number=True,
        ),
    ),
    "-packets",
    "None of them is in force, so nothing is counted.",
    "rule",
    lambda row: str(row["rule"]),
    ("name",),
)  # fmt: skip

PAGE = Page("policies", "Policies", make)
ONE = Page("policy", "Policy", make_one, under="policies")
