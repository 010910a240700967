"""Owns the methods about dynamic rules."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from ipsecd.control.absences import absences
from ipsecd.control.contradictions import outranked, still_blocked
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import (
    read_deadline,
    read_filters,
    read_moment,
    with_lists,
)
from ipsecd.control.replies import dynamic_rule
from ipsecd.engine import Engine
from ipsecd.engine.additions import Additions, Existing, Order
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, NotFound
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import parse_filter
from ipsecd.language.rule_parameters import read_action
from ipsecd.quoting import count, quote
from ipsecd.sources.dynamic import DynamicRule, Selected
from ipsecd.sources.names import dns_names_in, with_addresses


def _list_dynamic(engine: Engine, _: Request) -> dict[str, Any]:
    return {"rules": [dynamic_rule(engine, rule) for rule in engine.dynamic]}


def _add_dynamic(engine: Engine, request: Request) -> dict[str, Any]:
    filters = read_filters(request["filters"], request.names)
    rule = DynamicRule(
        request["name"] or engine.dynamic.free_name(),
        filters,
        read_action(request["action"]),
        parse_conditions(request["interface"] or None, request["when"]),
        read_deadline(request["ttl_s"], engine.now()),
        now := time.time(),
        request.by,
        now if request.names else 0.0,
    )
    engine.add_dynamic(rule)
    return {"rule": dynamic_rule(engine, rule), "warnings": absences(engine, rule.filters)}


def _add_dynamic_rules(engine: Engine, request: Request) -> dict[str, Any]:
    now = time.time()
    moment = request["until"]
    if moment is not None and request["ttl_s"] is not None:
        raise InvalidInput("both ttl_s and until say when the rules end", "give one of them")
    order = Order(
        tuple(with_addresses(rule_filter, request.names) for rule_filter in request["filters"]),
        read_action(request["action"]),
        request["name"] or None,
        _read_existing(request["existing"]),
        parse_conditions(request["interface"] or None, request["when"]),
        read_deadline(request["ttl_s"], engine.now())
        if moment is None
        else read_moment(moment, now, engine.now()),
        moment is not None,
        now,
        request.by,
        now if request.names else 0.0,
    )
    outcome = engine.order_dynamic(order, dry_run=bool(request["dry_run"]))
    return {
        "changed": bool(outcome.changed),
        "added": len(outcome.new),
        "renewed": len(outcome.changed) - len(outcome.new),
        "rules": [dynamic_rule(engine, rule) for rule in outcome.rules],
        "warnings": [
            *_sentences_on_ends(engine, outcome),
            *absences(engine, _filters_of(outcome.rules)),
        ],
        "outranked": [] if request["dry_run"] else outranked(engine, outcome.rules),
    }


def _read_existing(text: str | None) -> Existing:
    try:
        return Existing(text or Existing.REFUSE.value)
    except ValueError:
        words = ", ".join(each.value for each in Existing)
        raise InvalidInput(f"{quote(str(text))} is not one of {words}") from None


def _sentences_on_ends(engine: Engine, outcome: Additions) -> list[str]:
    """What to know of rules that end earlier than they would have: a ban may have been meant."""
    if not outcome.shortened:
        return []
    left = max(rule.deadline for rule in outcome.shortened) - engine.now()
    was = "until the daemon stops" if left == inf else f"for another {left:.0f} s"
    if len(outcome.shortened) == 1:
        name = outcome.shortened[0].name
        return [f"rule {quote(name)} ends earlier now: it was in force {was}"]
    rules = count(len(outcome.shortened), "rule")
    return [f"{rules} end earlier now: the longest was in force {was}"]


def _remove_dynamic(engine: Engine, request: Request) -> dict[str, Any]:
    selected = engine.remove_dynamic(_selected(engine, [request["selector"]]))
    return {"removed": [each.rule.name for each in selected]}


def _remove_dynamic_rules(engine: Engine, request: Request) -> dict[str, Any]:
    selectors = request["selectors"]
    selected: Sequence[Selected] = _selected(engine, selectors)
    if not request["dry_run"]:
        selected = engine.remove_dynamic(selected)
    return {
        "removed": [each.rule.name for each in selected if not each.kept],
        "reduced": [each.rule.name for each in selected if each.kept],
        "filters": sum(len(each.rule.filters) - len(each.kept) for each in selected),
        "still_blocked": [] if request["dry_run"] else still_blocked(engine, selectors),
    }


def _selected(engine: Engine, selectors: Iterable[str]) -> list[Selected]:
    """What `selectors` stand for together; raises ``NotFound`` for one that selects nothing."""
    by_name: dict[str, Selected] = {}
    for selector in selectors:
        selection = engine.dynamic.select(selector)
        if not selection:
            still = still_blocked(engine, [selector])
            more = ""
            if still:
                by = still[0]["by"]
                where = f"rule {quote(by['rule'])}"
                if by["policy"]:
                    where += f" of policy {quote(by['policy'])}"
                more = f"; {by['filter']} blocks it, in {where}"
            raise NotFound(
                f"no dynamic rule is called {quote(selector)} or has it as filter or address{more}",
                "ipsecctl show dynamic lists those there are",
            )
        for each in selection:
            before = by_name.get(each.rule.name)
            if before:
                gone = set(each.rule.filters) - set(each.kept)
                kept = tuple(kept for kept in before.kept if kept not in gone)
                by_name[each.rule.name] = Selected(each.rule, kept)
            else:
                by_name[each.rule.name] = each
    return [*by_name.values()]


def _flush_dynamic(engine: Engine, _: Request) -> dict[str, Any]:
    return {"removed": engine.flush()}


def _names_of_texts(_: Engine, request: Request) -> frozenset[str]:
    return dns_names_in(map(parse_filter, request["filters"]))


def _names_of_filters(_: Engine, request: Request) -> frozenset[str]:
    return dns_names_in(request["filters"])


def _filters_of(rules: Iterable[DynamicRule]) -> Iterable[Any]:
    return (rule_filter for rule in rules for rule_filter in rule.filters)


METHODS = (
    Method("ListDynamic", Role.VIEW, Work.LONG, _list_dynamic),
    Method(
        "AddDynamic",
        Role.CHANGE,
        Work.QUICK,
        _add_dynamic,
        names=_names_of_texts,
        part=Part.DYNAMIC,
        filters=lambda parameters: with_lists(parameters["filters"]),
    ),
    Method(
        "AddDynamicRules",
        Role.CHANGE,
        Work.QUICK,
        _add_dynamic_rules,
        names=_names_of_filters,
        takes_filters=True,
        part=Part.DYNAMIC,
        filters=lambda parameters: parameters["filters"],
    ),
    Method("RemoveDynamic", Role.CHANGE, Work.QUICK, _remove_dynamic, part=Part.DYNAMIC),
    Method("RemoveDynamicRules", Role.CHANGE, Work.QUICK, _remove_dynamic_rules, part=Part.DYNAMIC),
    Method("FlushDynamic", Role.CHANGE, Work.QUICK, _flush_dynamic, part=Part.DYNAMIC),
)
