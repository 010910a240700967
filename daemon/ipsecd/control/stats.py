"""Owns the methods that tell what rules have matched, for people and for monitoring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ipsecd import __version__
from ipsecd.backend.base import UNREADABLE, Count
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.status import state_of
from ipsecd.engine import Engine
from ipsecd.engine.counting import Counted
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import OF_DOMAIN
from ipsecd.model.values import Action, Origin
from ipsecd.sources.dynamic import DynamicRule, address_alone

MOST_DYNAMIC = 1000
"""Up to how many dynamic rules monitoring has one by one; the others it has as a sum."""
_NUMBERED = re.compile(r"dynamic-[0-9]+")
_NONE = Counted(0.0, Count())


def _stats(engine: Engine, _: Request) -> dict[str, Any]:
    if engine.stopped:
        return {"rules": [], "unparsable": 0, "lists": []}
    counted = engine.counting.read()
    rules = [_counted_rule(engine, *rule, counted) for rule in engine.rules().items()]
    unparsable = counted.get(UNREADABLE, _NONE).count.packets
    lists = [
        {
            "name": name,
            "packets": each.total.packets,
            "bytes": each.total.bytes,
            "since": moment_text(each.since),
        }
        for name, each in sorted(engine.counting.entries.known().items())
    ]
    return {"rules": rules, "unparsable": unparsable, "lists": lists}


def _counted_rule(
    engine: Engine, origin: Origin, action: Action, counted: Mapping[Origin, Counted]
) -> dict[str, Any]:
    found = counted.get(origin, _NONE)
    rule = engine.dynamic.get(origin.rule) if origin.volatile else None
    return {
        **_named(origin, action, found.count),
        "since": moment_text(found.since),
        "filters": [format_filter(each) for each in rule.filters] if rule else None,
        "address": _addresses(rule) if rule else None,
    }


def _named(origin: Origin, action: Action, count: Count) -> dict[str, Any]:
    return {
        "store": origin.store,
        "policy": origin.policy,
        "rule": origin.rule,
        "action": action.value,
        "packets": count.packets,
        "bytes": count.bytes,
    }


def _addresses(rule: DynamicRule) -> list[str]:
    """The addresses that a rule is about, as they were typed: ``block ADDRESS``."""
    found = map(address_alone, rule.filters)
    return [format_address(address) for address in found if address is not None]


def moment_text(since: float) -> str | None:
    """A moment in seconds since the epoch, as it is told; None for 0."""
    if not since:
        return None
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _metrics(engine: Engine, _: Request) -> dict[str, Any]:
    measured, observation = engine.measured, engine.observe()
    state = state_of(engine, observation)
    wanted = None if engine.stopped else engine.classifier.digest
    counted = {} if engine.stopped else engine.counting.read()
    metrics = {
        "listen": engine.config.metrics,
        "version": __version__,
        "backend": engine.ask(lambda backend: backend.name),
        "started": engine.started,
        "state": state,
        "in_force": observation.digest == wanted and not observation.drift and not engine.held,
        "rules": _rules_for_monitoring(engine, counted),
        "dynamic_rules": len(engine.dynamic),
        "unparsable": counted.get(UNREADABLE, _NONE).count.packets,
        "lists": _lists(engine),
        "domain": _domain(engine),
        "changed_at": measured.changed_at or None,
        "repaired": measured.repaired,
        "applied": measured.applied,
        "applied_s": measured.applied_s,
        "applied_last_s": measured.applied_last_s,
        "monitor_lost": engine.seeing.lost,
    }
    return {"metrics": metrics}


def _rules_for_monitoring(
    engine: Engine, counted: Mapping[Origin, Counted]
) -> list[dict[str, Any]]:
    """Every rule, but of dynamic ones only some, and the others as a rule without a name."""
    rules: list[tuple[Origin, Action, Count]] = []
    dynamic: list[tuple[Origin, Action, Count]] = []
    for origin, action in engine.rules().items():
        found = counted.get(origin, _NONE).count
        (dynamic if origin.volatile else rules).append((origin, action, found))
    shown = [
        {**_named(*each), "rule": _name_for_monitoring(engine, each[0])}
        for each in dynamic[:MOST_DYNAMIC]
    ]
    return [*(_named(*each) for each in rules), *shown, *_summed(dynamic[MOST_DYNAMIC:])]


def _name_for_monitoring(engine: Engine, origin: Origin) -> str:
    """The name of a dynamic rule, or its addresses if nobody has named it."""
    rule = engine.dynamic.get(origin.rule)
    addresses = _addresses(rule) if rule and _NUMBERED.fullmatch(rule.name) else []
    return " ".join(addresses) or origin.rule


def _summed(rules: Iterable[tuple[Origin, Action, Count]]) -> list[dict[str, Any]]:
    sums: dict[Action, Count] = {}
    for _, action, count in rules:
        sums[action] = sums.get(action, Count()) + count
    return [_named(Origin("dynamic", "", ""), *each) for each in sums.items()]


def _lists(engine: Engine) -> list[dict[str, Any]]:
    """The lists of this host, and those in force that are the domain's."""
    problems, stored = engine.kept_lists.feeds.problems, engine.kept_lists.store.lists
    counted = engine.counting.entries.known()
    lists = [
        {
            "name": name,
            "entries": sum(map(each.addresses.count, each.addresses.entries)),
            "checked": each.feed.checked or None if each.feed else None,
            "every_s": each.feed.every_s if each.feed else None,
            "failing": name in problems,
            "packets": counted[name].total.packets if name in counted else None,
        }
        for name, each in stored.items()
    ]
    carried = engine.state.lists.items()
    return lists + [
        {
            "name": name,
            "entries": sum(map(addresses.count, addresses.entries)),
            "checked": None,
            "every_s": None,
            "failing": False,
            "packets": None,
        }
        for name, addresses in carried
        if name.startswith(OF_DOMAIN)
    ]


def _domain(engine: Engine) -> dict[str, Any] | None:
    settings = engine.config.domain
    if settings is None:
        return None
    taken, lookups = engine.domain, engine.lookups
    return {
        "policy": taken.stored.policy.name if taken.stored else None,
        "version": taken.version,
        "taken_at": taken.taken_at or None,
        "checked_at": lookups.checked_at,
        "expires": taken.expires,
        "interval_s": settings.interval_s,
        "failing": bool(lookups.problem),
    }


METHODS = (
    Method("Stats", Role.VIEW, Work.LONG, _stats),
    Method("Metrics", Role.VIEW, Work.LONG, _metrics),
)
