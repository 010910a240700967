"""Owns the first page: whether all is well, what is in force, and what was dropped of late."""

from __future__ import annotations

from typing import Any

from ipsecctl.presentation import span
from ipsecctl.web.markup import Content, Markup, address, tag
from ipsecctl.web.pages.counts import drawing
from ipsecctl.web.pages.page import Page, Sight
from ipsecctl.web.words import ago, amount, code, facts, moment, notice
from ipsecd.quoting import count, few

_STATES = {
    "enforcing": ("good", "Enforcing", "Every packet is judged by the rules below."),
    "idle": (
        "idle",
        "Idle",
        "Nothing is assigned and there is no dynamic rule: everything passes.",
    ),
    "stopped": ("warn", "Stopped", "Nothing is enforced: everything passes."),
    "failed": ("bad", "Failed", "A policy could not be loaded. What is in force is stated below."),
    "drifted": ("bad", "Drifted", "The kernel does not hold what it should."),
}
_TODO = {
    "failed": "Mend what is named here, and run 'ipsecctl reload'.",
    "drifted": "Put it back with 'systemctl restart ipsecd', and find out who changed it.",
    "stopped": "'ipsecctl net start policyagent' starts it.",
}
_CHART_S = 600.0


async def make(sight: Sight) -> Content:
    """The state as ``ipsecctl status`` has it, and ten minutes of counts."""
    status = (await sight.daemon.ask("Status"))["status"]
    return [
        _state(status),
        _troubles(status),
        tag(
            "div",
            _card("In force", _in_force(status)),
            _card("Kernel", _kernel(status)),
            _card("Daemon", _daemon(status, sight.now)),
            _card("Domain", _domain(status["domain"], sight.now)) if status["domain"] else None,
            class_="cards",
        ),
        tag("h2", "The last ten minutes"),
        drawing(sight.samples, sight.now - _CHART_S, sight.now),
    ]


def _state(status: dict[str, Any]) -> Markup:
    kind, word, sentence = _STATES.get(status["state"], ("warn", status["state"], ""))
    return tag(
        "div",
        tag("p", word, class_="word"),
        tag("p", sentence, " ", _TODO.get(status["state"], "")),
        class_=f"state {kind}",
    )


def _troubles(status: dict[str, Any]) -> Content:
    """What is wrong, most important first."""
    waiting = status.get("unconfirmed")
    unconfirmed = (
        [f"The change by {waiting['by']} is put back in {span(waiting['left_s'])}."]
        if waiting
        else []
    )
    put_back = status.get("put_back")
    domain = status["domain"]
    return [
        notice("bad", "Failures", status["failures"]),
        notice("bad", "Differences between what should be enforced and what is", status["drift"]),
        notice(
            "warn", "A change waits to be confirmed", unconfirmed,
            "Keep it with 'ipsecctl confirm', from a new login.",
        ),
        notice("warn", "A change was put back", [put_back] if put_back else []),
        notice("warn", "Files", status["file_warnings"]),
        notice("warn", "The domain", [domain["problem"]] if domain and domain["problem"] else []),
        notice("warn", "Filters that match nothing at the moment", status["warnings"]),
        notice("warn", "What this kernel cannot judge", status["gaps"]),
    ]  # fmt: skip


def _card(title: str, content: Content) -> Markup:
    return tag("section", tag("h2", title), content, class_="card")


def _in_force(status: dict[str, Any]) -> Markup:
    protected = status.get("protected_filters", 0)
    taken_over = status["dynamic_taken_over"]
    return facts(
        ("Policy", _policy(status)),
        ("Its rules", _amount(status, "policy") if status["assigned"] else None),
        ("Dynamic rules", tag("a", _amount(status, "dynamic"), href=address("dynamic"))),
        ("Taken over", count(taken_over, "rule") if taken_over else None),
        ("Protected", count(protected, "filter") if protected else None),
        ("Always pass", few([each["name"] for each in status["exemptions"]]) or "nothing"),
        ("Unparsable", "packets pass" if status["unparsable"] == "pass" else None),
    )


def _policy(status: dict[str, Any]) -> Content:
    name = status["assigned"]
    if name is None:
        return "none is assigned"
    link = tag("a", name, href=address("policy", name=name))
    if status["state"] == "stopped" or status["loaded_from"] == "nothing":
        return [link, tag("span", "not in force", class_="mark warn")]
    origins = {"domain": "of the domain", "last-good": "as it last was good"}
    origin = origins.get(status["loaded_from"])
    kind = "mark warn" if status["loaded_from"] == "last-good" else "mark"
    # A daemon that is older knows of no audit.
    audit = "its blocks only count" if status.get("policy_audit") else None
    return [
        link,
        tag("span", origin, class_=kind) if origin else None,
        tag("span", audit, class_="mark warn") if audit else None,
    ]


def _amount(status: dict[str, Any], store: str) -> str:
    rules, filters = status[f"{store}_rules"], status[f"{store}_filters"]
    return f"{count(rules, 'rule')}, {count(filters, 'filter')}" if rules else "none"


def _kernel(status: dict[str, Any]) -> Markup:
    wanted, observed = status["wanted"], status["observed"]
    same = observed == wanted and not status["drift"]
    if observed is None:
        is_empty = status["state"] in ("stopped", "idle")
        step: Content = "holds nothing of ours" if is_empty else "cannot be read"
    elif same:
        step = tag("span", "in step", class_="mark good")
    else:
        step = tag("span", "not in step", class_="mark bad")
    return facts(
        ("State", step),
        ("Should hold", code(wanted) if wanted else "nothing"),
        ("Holds", code(observed) if observed else "nothing"),
        ("Backend", status["backend"]),
        ("Features", ", ".join(status["features"]) or "none"),
    )


def _daemon(status: dict[str, Any], now: float) -> Markup:
    engines = [
        tag("div", f"{engine['socket']}: {engine['state']}")
        for engine in status["container_engines"]
        if engine["state"] not in ("unused", "absent")
    ]
    return facts(
        ("Version", status["version"]),
        ("Runs since", [moment(status["since"]), f", {span(now - status['since'])}"]),
        ("Process", str(status["pid"])),
        ("Policy file", status["policy_path"]),
        ("Containers", engines or None),
    )


def _domain(domain: dict[str, Any], now: float) -> Markup:
    trusted = None if domain["trusted"] else tag("span", "no root is trusted", class_="mark warn")
    return facts(
        ("Policy", "withdrawn" if domain["withdrawn"] else domain["policy"] or "none was taken"),
        ("Version", f"{amount(domain['version'])}" if domain["version"] else None),
        ("Looked at", ago(domain["checked_at"], now)),
        ("Trust", trusted),
        ("More", tag("a", "the fleet", href=address("fleet"))),
    )


PAGE = Page("overview", "Overview", make, seconds=5, plain_seconds=30)
