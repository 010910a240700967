"""Owns the methods for programs that keep many dynamic rules of their own."""

from __future__ import annotations

import time
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_dynamic, with_lists
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import dns_names_in


def _change_dynamic_rules(engine: Engine, request: Request) -> dict[str, Any]:
    now, created = engine.now(), time.time()
    rules, refused = [], {}
    for wanted in request["put"]:
        try:
            rules.append(_rule(wanted, now, created, request.by))
        except IpsecdError as error:
            refused[wanted["name"]] = error
    change = engine.change_dynamic(rules, request["remove"])
    return {
        "added": change.added,
        "renewed": change.renewed,
        "removed": change.removed,
        "refused": [
            {"name": name, "message": error.message, "hint": error.hint}
            for name, error in (refused | change.refused).items()
        ],
    }


def _rule(wanted: dict[str, Any], now: float, created: float, by: str) -> DynamicRule:
    filters = tuple(map(parse_filter, wanted["filters"]))
    if not filters:
        raise InvalidInput("the rule has no filter", "give one at least")
    if names := dns_names_in(filters):
        raise InvalidInput(
            f"{quote(min(names))} is a DNS name, and none is looked up here", "give its addresses"
        )
    return read_dynamic(wanted, filters, now, created, by)


def _await_start(_: Engine, __: Request) -> dict[str, Any]:
    return {}


METHODS = (
    Method(
        "ChangeDynamicRules",
        Role.CHANGE,
        Work.QUICK,
        _change_dynamic_rules,
        filters=lambda parameters: with_lists(
            text for wanted in parameters["put"] for text in wanted["filters"]
        ),
        part=Part.DYNAMIC,
    ),
    Method("AwaitStart", Role.VIEW, Work.QUICK, _await_start),
)
