"""Owns why a packet is dropped or passes: a form, and the answer in sentences."""

from __future__ import annotations

from typing import Any

from ipsecctl.presentation import resolved
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.pages.rules import rule_link
from ipsecctl.web.words import action, code, facts, notice, trouble
from ipsecd.errors import InvalidInput, IpsecdError

_EXAMPLES = (
    "udp 203.0.113.7:4000 > me:1434",
    "tcp 203.0.113.7 > me:22",
    "icmp me > 198.51.100.1",
)
_REASONS = {
    "no filter": "No filter in force matches it, and what none matches passes.",
    "loopback": "Traffic of this host with itself is not filtered.",
    "unparsable": "Its headers cannot be read.",
}
_OPENING = (
    "Some rules are only for packets that open a connection: one that was open before the first of "
    "them was in force is known from its next packet out."
)


async def make(sight: Sight) -> Content:
    """The form, and below it what happens to the packet in it."""
    packet = sight.query.get("packet", "").strip()
    at = sight.query.get("at", "").strip()
    form = _form(packet, at)
    if not packet:
        return [form, _examples()]
    try:
        if at:
            reply = await sight.daemon.ask("ExplainAt", at=at, packet=packet)
        else:
            reply = await sight.daemon.ask("Explain", packet=packet)
    except IpsecdError as error:
        return [form, trouble(error), _place(error), _examples()]
    return [form, _then(reply) if at else None, _answer(reply["explanation"])]


def _then(reply: dict[str, Any]) -> Content:
    """What is known of the moment that a packet was explained for."""
    change, decided = reply.get("change"), reply.get("decided")
    by = f", by {change['by']}" if change else ""
    return [
        notice("warn", "What is not certain", reply.get("warnings") or []),
        facts(
            ("At", reply.get("at")),
            ("Unchanged since", f"{reply['since']}{by}" if reply.get("since") else None),
            ("What decides", f"{decided['what']}, since {decided['since']}" if decided else None),
            ("Backend", reply.get("backend")),
        ),
    ]


def _form(packet: str, at: str) -> Markup:
    return tag(
        "form",
        tag("label", "Packet", for_="packet"),
        tag(
            "input", type="text", name="packet", id="packet", value=packet, maxlength="500",
            placeholder=_EXAMPLES[0], autocomplete="off", spellcheck="false", autofocus=not packet,
        ),
        tag("label", "At, if not now", for_="at"),
        tag(
            "input", type="text", name="at", id="at", value=at, maxlength="60",
            placeholder="2026-12-01T12:00:00Z", autocomplete="off", spellcheck="false",
        ),
        tag("button", "Explain"),
        class_="explain", action=address("explain"), method="get",
    )  # fmt: skip


def _examples() -> Markup:
    links = [
        tag("li", tag("a", code(text), href=address("explain", packet=text))) for text in _EXAMPLES
    ]
    return tag("div", tag("p", "Such as:"), tag("ul", links), class_="examples")


def _place(error: IpsecdError) -> Markup | None:
    """The place in what was typed that could not be read."""
    if not isinstance(error, InvalidInput) or not error.pointer:
        return None
    return tag("pre", [tag("span", line, class_="line") for line in error.pointer])


def _answer(explanation: dict[str, Any]) -> Content:
    known = explanation.get("established")
    return [
        _judgement(explanation),
        _leaving(explanation.get("leaving")),
        tag("h2", "As part of an open connection") if known else None,
        _judgement(known) if known else None,
        _leaving(explanation.get("established_leaving")) if known else None,
        tag("p", _OPENING, class_="hint") if explanation.get("when_opening") else None,
    ]


def _leaving(leaving: dict[str, Any] | None) -> Content:
    if not leaving or not (leaving["by"] or len(leaving.get("source_ports") or ()) > 1):
        return None
    return [tag("h2", "If it leaves under this host's address"), _judgement(leaving)]


def _judgement(judgement: dict[str, Any]) -> Markup:
    drops = judgement["decision"] == "block"
    return tag(
        "section",
        tag(
            "p",
            tag("strong", "It is dropped" if drops else "It passes"),
            ": ",
            code(judgement["packet"]),
        ),
        tag("p", _why(judgement)),
        _audited(judgement.get("audited")),
        _beaten(judgement["beaten"]),
        _ports(judgement.get("source_ports") or []),
        class_=f"verdict {'block' if drops else 'permit'}",
    )


def _why(judgement: dict[str, Any]) -> Content:
    by = judgement["by"]
    if by:
        return ["This filter decides: ", _reference(by)]
    reason = judgement["reason"]
    return _REASONS.get(reason, f"The exemption {reason} lets it pass before any filter.")


def _audited(audit: dict[str, Any] | None) -> Markup | None:
    """The audit that counts the packet; a daemon that is older knows of none."""
    if not audit:
        return None
    return tag("p", "As a block, this one would drop it; it counts it: ", _reference(audit))


def _beaten(beaten: list[dict[str, Any]]) -> Content:
    if not beaten:
        return None
    title = tag("p", "It is more specific than these, which match the packet too:")
    return [title, tag("ol", [tag("li", _reference(match)) for match in beaten])]


def _ports(ports: list[dict[str, Any]]) -> Content:
    if not ports:
        return None
    if len(ports) == 1:
        return tag("p", "That holds for every source port.")
    items = [
        tag(
            "li",
            f"from port {one['first']}"
            + (f" to {one['last']}" if one["last"] != one["first"] else ""),
            ": ",
            action(one["decision"]),
            [", by ", _reference(one["by"])] if one["by"] else f", {one['reason']}",
        )
        for one in ports
    ]
    return [tag("p", "It depends on the source port:"), tag("ul", items)]


def _reference(match: dict[str, Any]) -> Content:
    policy = (
        [" of policy ", tag("q", match["policy"])] if match["policy"] else f", {match['store']}"
    )
    return [
        action(match["action"]),
        " ",
        code(match["filter"]),
        resolved(match),
        " in rule ",
        rule_link(match["store"], match["policy"], match["rule"]),
        policy,
    ]


PAGE = Page("explain", "Why is a packet dropped?", make)
