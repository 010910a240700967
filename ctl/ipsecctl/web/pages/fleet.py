"""Owns what this host knows of its domain policy, and of the other hosts that report here."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ipsecctl.presentation import span
from ipsecctl.web.markup import Content, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import ago, amount, code, facts, moment, notice, trouble
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.quoting import count
from ipsecd_domain.errors import required_packages


async def make(sight: Sight) -> Content:
    """The domain of this host, and below it the fleet of a repository that it has."""
    try:
        domain = (await sight.daemon.ask("GetDomain"))["domain"]
        own = _domain(domain, sight.now)
    except NotFound:
        own = [tag("p", "This host has its policy from nowhere but itself.", class_="none")]
    return [own, await _fleet(sight)]


def _domain(domain: dict[str, Any], now: float) -> list[Content]:
    labels = " ".join(f"{name}={value}" for name, value in sorted(domain["labels"].items()))
    lists = [
        tag("div", code(f"@{each['name']}"), f" {count(each['entries'], 'entry')}")
        for each in domain["lists"]
    ]
    good_until = f"{domain['version']}, good until {domain['expires']}"
    return [
        notice("warn", "The last look failed; what is in force stays", _some(domain["problem"])),
        facts(
            (
                "Policy",
                "withdrawn" if domain["withdrawn"] else domain["policy"] or "none was taken",
            ),
            ("Because", [tag("div", line) for line in domain["why"].splitlines()] or None),
            ("Source", code(domain["source"])),
            ("Version", good_until if domain["version"] else "none was seen"),
            ("Taken", moment(domain["taken_at"])),
            ("Looked at", ago(domain["checked_at"], now)),
            ("Looks every", span(domain["interval_s"])),
            ("This host is", domain["host"]),
            ("In groups", ", ".join(domain["groups"]) or None),
            ("With labels", labels or None),
            ("Lists", lists or None),
            ("Digest", code(domain["digest"]) if domain["digest"] else None),
        ),
    ]


def _some(text: str) -> list[str]:
    return [text] if text else []


async def _fleet(sight: Sight) -> Content:
    """How other hosts stand, where their reports are."""
    if sight.fleet is None:
        return None
    title = tag("h2", "Hosts that report here")
    try:
        seen = await asyncio.to_thread(look, *sight.fleet)
    except IpsecdError as error:
        return [title, trouble(error)]
    summary = (
        f"Version {amount(seen['version'])}: {count(len(seen['hosts']), 'host')}, "
        f"{count(seen['stragglers'], 'straggler')}, {amount(seen['failed'])} failed."
    )
    canaries = [
        f"{each['policy']} of {each['role']}: given to {count(each['given'], 'host')}, "
        f"{amount(len(each['hosts']))} have it, {amount(len(each['failing']))} fail"
        for each in seen["canaries"]
    ]
    unusable = [f"{each['file']}: {each['reason']}" for each in seen["unusable"]]
    return [
        title,
        tag("p", summary),
        notice("warn", "Canaries", canaries),
        notice("warn", "Reports that are not used", unusable),
        _TABLE.shown(seen["hosts"], sight.query),
    ]


def look(repository: Path, reports: Path) -> dict[str, Any]:
    """How the hosts stand, as ``domain fleet --json`` has it; raises ``IpsecdError``."""
    with required_packages():
        from ipsecctl.domain_hosts import fleet_as_json
        from ipsecd_domain.repository import fleet
    return fleet_as_json(fleet.look(repository, reports, datetime.now(UTC)))


def _state(row: Any) -> Content:
    words = [word for word in ("behind", "silent") if row[word]]
    if row["problem"]:
        return tag("span", ", ".join([*words, "failed"]), class_="mark bad")
    return tag("span", ", ".join(words) or "current", class_=f"mark {'warn' if words else 'good'}")


def _policy(row: Any) -> Content:
    policy = "withdrawn" if row["withdrawn"] else row["policy"] or "none"
    other = None if row["current"] else f"not {row['given'] or 'withdrawn'}"
    return [policy, tag("div", other, class_="more") if other else None]


def _text(row: Any) -> str:
    labels = [f"{name}={value}" for name, value in row["labels"].items()]
    return " ".join((row["host"], *row["groups"], *labels, row["policy"] or "", row["problem"]))


_TABLE = Table(
    "fleet",
    (
        Column("host", "Host", lambda row: row["host"], lambda row: row["host"]),
        Column(
            "state", "State", _state,
            lambda row: (not row["problem"], not row["behind"], not row["silent"]),
        ),
        Column(
            "version", "Version", lambda row: amount(row["version"]), lambda row: row["version"],
            is_number=True,
        ),
        Column("policy", "Policy", _policy, lambda row: row["policy"] or ""),
        Column(
            "heard", "Heard", lambda row: f"{span(row['unheard_s'])} ago",
            lambda row: row["unheard_s"],
        ),
        Column("problem", "Problem", lambda row: row["problem"].partition("\n")[0]),
    ),
    "state",
    "No host has reported yet.",
    "host",
    _text,
)  # fmt: skip
PAGE = Page("fleet", "Fleet", make, seconds=30)
