"""Owns the counts over time: what was blocked and permitted, and by which rules."""

from __future__ import annotations

from collections.abc import Sequence

from ipsecctl.presentation import span
from ipsecctl.web.charts import Line, Point, rates
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.pages.recorded import recorded
from ipsecctl.web.samples import Rule, Sample, Samples, busiest
from ipsecctl.web.words import action, amount

_SPANS = {"10m": 600.0, "1h": 3600.0, "6h": 6 * 3600.0, "1d": 24 * 3600.0}
_ACTIONS = ("block", "permit", "audit")
_MOST_RULES = 10


async def make(sight: Sight) -> Content:
    """What was matched since the page runs, for a span that is chosen by a link."""
    chosen = sight.query.get("span", "")
    chosen = chosen if chosen in _SPANS else "10m"
    start = sight.now - _SPANS[chosen]
    links = [
        tag(
            "a",
            name,
            href=address("counts", span=name),
            aria_current="true" if name == chosen else None,
        )
        for name in _SPANS
    ]
    samples = sight.samples.since(start)
    return [
        tag("p", "The last: ", links, class_="choice"),
        drawing(sight.samples, start, sight.now),
        tag("h2", "Rules that matched most"),
        _rules(busiest(samples, _MOST_RULES)),
        tag(
            "p",
            "These are samples that this page has taken since it runs, with gaps where the daemon "
            "did not answer. The counts themselves, since rules are in force, are with the ",
            tag("a", "rules", href=address("rules")),
            ".",
            class_="hint",
        ),
        await recorded(sight, start),
    ]


def drawing(samples: Samples, start: float, end: float) -> Content:
    """What each action matched in a span of time, drawn and in a sentence."""
    shown = samples.since(start)
    if not shown:
        return tag("p", "The first counts come in a few seconds.", class_="none")
    names = [name for name in _ACTIONS if any(name in sample.packets for sample in shown)]
    lines = [Line(name, _points(shown, name)) for name in names]
    totals = [
        tag(
            "li",
            action(name),
            f" {amount(sum(sample.packets.get(name, 0) for sample in shown))} packets",
        )
        for name in names
    ]
    title = f"Packets a second that rules matched, over {span(end - start)}"
    return tag(
        "figure",
        rates(lines, start, end, title),
        tag("figcaption", "Packets a second. In all: ", tag("ul", totals, class_="key")),
    )


def _points(samples: Sequence[Sample], name: str) -> list[Point]:
    return [Point(each.at, each.seconds, each.packets.get(name, 0)) for each in samples]


def _rules(rules: Sequence[tuple[Rule, int]]) -> Markup:
    if not rules:
        return tag("p", "No rule matched anything in that time.", class_="none")
    most = max(number for _, number in rules)
    rows = [
        tag(
            "tr",
            tag("td", action(rule[3]), data_label="Action"),
            tag("td", rule[2], data_label="Rule"),
            tag("td", rule[1] or rule[0], data_label="Policy"),
            tag("td", amount(number), class_="number", data_label="Packets"),
            tag("td", _bar(number / most), class_="bar"),
        )
        for rule, number in rules
    ]
    head = [tag("th", word, scope="col") for word in ("Action", "Rule", "Policy")]
    number = tag("th", "Packets", class_="number", scope="col")
    empty = tag("th", tag("span", "Share", class_="unseen"), scope="col", class_="bar")
    return tag("table", tag("thead", tag("tr", head, number, empty)), tag("tbody", rows))


def _bar(share: float) -> Markup:
    width = f"{max(1.0, 100 * share):.1f}"
    bar = tag("rect", width=width, height="8")
    return tag(
        "svg",
        bar,
        class_="share",
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


PAGE = Page("counts", "Counts over time", make, seconds=10, plain_seconds=30)
