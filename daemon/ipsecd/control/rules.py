"""Owns the methods that change single rules of a stored policy."""

from __future__ import annotations

from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_action, read_interface
from ipsecd.control.replies import local_outcome
from ipsecd.engine import Engine
from ipsecd.errors import NotFound
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Policy, Rule
from ipsecd.quoting import few, quote
from ipsecd.sources.names import names_in
from ipsecd.sources.static import KEEP


def _put_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    known = engine.loaded.policies.get(name)
    if known is None and not request["create"]:
        engine.stored(name)
    policy = known.policy if known else Policy(name)
    for given in request["rules"]:
        # Names are resolved apart, and stored beside the policy: the document keeps the name.
        rule = Rule(
            given["name"],
            tuple(map(parse_filter, given["filters"])),
            read_action(given["action"]),
            read_interface(given.get("interface")),
        )
        policy = policy.with_rule(rule)
    engine.change(put=[policy], assign=name if request["assign"] else KEEP, names=request.names)
    rules = [repr(rule["name"]) for rule in request["rules"]]
    verb = f"rules {few(rules)} are" if len(rules) > 1 else f"rule {few(rules)} is"
    return local_outcome(engine, f"{verb} stored in policy {name!r}", warns=True)


def _remove_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    policy = engine.stored(name)
    names = frozenset(request["rules"])
    missing = sorted(names - {rule.name for rule in policy.rules})
    if missing:
        raise NotFound(
            f"policy {name!r} has no rule {quote(missing[0])}",
            f"run: ipsecctl policy show {name!r}",
        )
    rest = policy.without_rules(names)
    if rest.rules or not request["delete_empty"]:
        engine.change(put=[rest])
        return local_outcome(engine, f"{len(names)} rules are removed from policy {name!r}")
    if engine.loaded.assigned == name:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    return local_outcome(engine, f"policy {name!r} is deleted with all its rules")


def _names_of_rules(_: Engine, request: Request) -> frozenset[str]:
    texts = (text for rule in request["rules"] for text in rule["filters"])
    return names_in(map(parse_filter, texts))


METHODS = (
    Method("PutRules", Role.CHANGE, Work.CHANGE, _put_rules, names=_names_of_rules),
    Method("RemoveRules", Role.CHANGE, Work.CHANGE, _remove_rules),
)
