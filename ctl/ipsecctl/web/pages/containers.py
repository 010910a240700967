"""Owns the containers that a filter can name, and how their engines are."""

from __future__ import annotations

from typing import Any

from ipsecctl.web.markup import Content, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.tables import Column, Table
from ipsecctl.web.words import code, notice

_STATES = {
    "connected": "is followed",
    "unused": "is being asked; look again in a moment",
    "absent": "is not on this host",
}


async def make(sight: Sight) -> Content:
    """Every container that has an address."""
    reply = await sight.daemon.ask("ListContainers")
    engines = reply["engines"]
    wrong = [
        f"{engine['socket']}: {engine['state']}"
        for engine in engines
        if engine["state"] not in _STATES
    ]
    return [
        notice("warn", "An engine does not answer; what was known of it is in force", wrong),
        _TABLE.shown(reply["containers"], sight.query),
        tag("h2", "Engines"),
        tag(
            "ul",
            [
                tag(
                    "li",
                    code(engine["socket"]),
                    f" {_STATES.get(engine['state'], engine['state'])}",
                )
                for engine in engines
            ],
        )
        if engines
        else tag("p", "No engine is followed.", class_="none"),
    ]


def _networks(row: Any) -> Content:
    return [
        tag("div", f"{network['name']}: ", code(", ".join(network["addresses"])))
        for network in row["networks"]
    ]


def _text(row: Any) -> str:
    addresses = [text for network in row["networks"] for text in network["addresses"]]
    return " ".join((row["name"], row["id"], *row["labels"], *addresses))


_TABLE = Table(
    "containers",
    (
        Column("name", "Container", lambda row: row["name"], lambda row: row["name"].lower()),
        Column("id", "Id", lambda row: code(row["id"]), lambda row: row["id"]),
        Column("networks", "Networks", _networks),
        Column("labels", "Labels", lambda row: [tag("div", text) for text in row["labels"]] or "-"),
    ),
    "name",
    "No container has an address.",
    "container",
    _text,
)
PAGE = Page("containers", "Containers", make, seconds=10)
