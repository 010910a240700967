"""Owns the methods about dynamic rules."""

from __future__ import annotations

import time
from typing import Any

from ipsecd.control.absences import absences
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_action, read_deadline, read_filters
from ipsecd.control.replies import dynamic_rule
from ipsecd.engine import Engine
from ipsecd.errors import NotFound
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import parse_filter
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import dns_names_in


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


def _remove_dynamic(engine: Engine, request: Request) -> dict[str, Any]:
    selected = engine.dynamic.find(request["selector"])
    if not selected:
        raise NotFound(
            f"no dynamic rule is called {quote(request['selector'])} "
            "or has it as filter or address",
            "ipsecctl show dynamic lists those there are",
        )
    removed = engine.remove_dynamic(selected)
    return {"removed": [rule.name for rule in removed]}


def _flush_dynamic(engine: Engine, _: Request) -> dict[str, Any]:
    return {"removed": engine.flush()}


def _names_of_filters(_: Engine, request: Request) -> frozenset[str]:
    return dns_names_in(map(parse_filter, request["filters"]))


METHODS = (
    Method("ListDynamic", Role.VIEW, Work.LONG, _list_dynamic),
    Method("AddDynamic", Role.CHANGE, Work.QUICK, _add_dynamic, names=_names_of_filters),
    Method("RemoveDynamic", Role.CHANGE, Work.QUICK, _remove_dynamic),
    Method("FlushDynamic", Role.CHANGE, Work.QUICK, _flush_dynamic),
)
