"""Owns the packets that are dropped now: as they come with a script, else the last ones."""

from __future__ import annotations

from typing import Any

from ipsecctl.web.live import RATE, Told
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.words import action, amount, code

_HEAD = ("At, UTC", "Action", "Packet", "Rule", "Where", "Who")


async def make(sight: Sight) -> Content:
    """The last packets, the newest first; a script adds what follows."""
    told = sight.live.look()
    head = [tag("th", word, scope="col") for word in _HEAD]
    rows = [_row(told_of(packet)) for packet in reversed(told.packets)]
    return [
        tag("p", told.trouble, id="trouble", class_="notice warn", hidden=not told.trouble),
        tag("p", _summary(told), id="summary"),
        tag("p", tag("button", "Pause", type="button", id="pause", hidden=True)),
        tag(
            "table",
            tag("thead", tag("tr", head)),
            tag("tbody", rows, id="packets", data_events=address("drops.events")),
        ),
        tag(
            "p",
            f"Packets are told of while somebody looks, at most {RATE} a second. A packet leads to "
            "why it was dropped.",
            class_="hint",
        ),
    ]


def told_of(packet: dict[str, Any]) -> dict[str, str]:
    """What is shown of a packet, for the page and for the script in the same words."""
    rule = packet["rule"] or "not known"
    listed = f" (@{packet['list']}: {packet['entry']})" if packet["list"] else ""
    links = {"in": "arriving", "out": "sending", "forward": "leaving"}
    where = links.get(packet["direction"], packet["direction"])
    who = packet["container"] or packet["process"] or ""
    return {
        "at": packet["at"][11:23],
        "action": packet["action"],
        "packet": packet["packet"],
        "rule": rule + listed,
        "policy": packet["policy"] or packet["store"] or "",
        "where": f"{where}, {packet['interface']}" if packet["interface"] else where,
        "who": who,
        "size": f"{packet['length']:,} bytes",
    }


def _row(told: dict[str, str]) -> Markup:
    link = tag("a", code(told["packet"]), href=address("explain", packet=told["packet"]))
    cells: list[Content] = [
        told["at"],
        action(told["action"]),
        [link, tag("div", told["size"], class_="more")],
        [told["rule"], tag("div", told["policy"], class_="more")],
        told["where"],
        told["who"],
    ]
    labelled = zip(_HEAD, cells, strict=True)
    return tag("tr", [tag("td", cell, data_label=label) for label, cell in labelled])


def _summary(told: Told) -> str:
    lost = f", {amount(told.lost)} of them not told of" if told.lost else ""
    return f"{amount(told.blocked)} packets were dropped since this is followed{lost}."


PAGE = Page("drops", "Live drops", make, plain_seconds=5)
