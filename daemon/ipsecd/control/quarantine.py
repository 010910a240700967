"""Owns the methods about quarantines."""

from __future__ import annotations

import time
from typing import Any

from ipsecd.control.absences import absences
from ipsecd.control.contradictions import rules_overruled
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_deadline, read_filters
from ipsecd.control.replies import dynamic_rule
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, NotFound
from ipsecd.language.addresses import format_address, parse_address
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Keyword, Selector
from ipsecd.model.quarantine import Quarantine
from ipsecd.quoting import quote
from ipsecd.sources.names import dns_names_in


def _quarantine(engine: Engine, request: Request) -> dict[str, Any]:
    who = _who(request["who"])
    wanted = Quarantine(
        _name(who),
        who,
        read_filters(request["permits"], request.names),
        read_deadline(request["ttl_s"], engine.now()),
        time.time(),
        request.by,
    )
    present = engine.state.quarantines.get(wanted.name)
    changed = (
        present is None
        or (present.permits, present.deadline) != (wanted.permits, wanted.deadline)
        or engine.stopped
    )
    if present is None or changed:
        rules = engine.impose(wanted)
    else:
        rules = tuple(rule for rule in engine.dynamic if present.owns(rule.name))
    filters = [rule_filter for rule in rules for rule_filter in rule.filters]
    return {
        "changed": changed,
        "rules": [dynamic_rule(engine, rule) for rule in rules],
        "warnings": [*absences(engine, filters), *rules_overruled(engine, rules)],
    }


def _release(engine: Engine, request: Request) -> dict[str, Any]:
    name = _name(_who(request["who"]))
    removed = engine.release(name)
    if not removed:
        raise NotFound(f"{name} is not in quarantine", "ipsecctl show dynamic lists who is")
    return {"name": name, "removed": list(removed)}


def _who(text: str) -> Keyword | Selector:
    who = parse_address(text)
    if who is Keyword.ME or isinstance(who, Selector):
        return who
    raise InvalidInput(
        f"{quote(text)} cannot be in quarantine", "write container:NAME, or 0 for this host"
    )


def _name(who: Keyword | Selector) -> str:
    return "this host" if who is Keyword.ME else format_address(who)


def _names_of_permits(_: Engine, request: Request) -> frozenset[str]:
    return dns_names_in(map(parse_filter, request["permits"]))


METHODS = (
    Method(
        "Quarantine",
        Role.CHANGE,
        Work.QUICK,
        _quarantine,
        names=_names_of_permits,
        part=Part.DYNAMIC,
    ),
    Method("Release", Role.CHANGE, Work.QUICK, _release, part=Part.DYNAMIC),
)
