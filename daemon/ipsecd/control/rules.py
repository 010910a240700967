"""Owns the methods that change single rules of a stored policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_action
from ipsecd.control.replies import needs_storing, of_this_host, outcome, with_losses
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import NotFound
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.differences import Difference
from ipsecd.language.expectations import must_be_met
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Policy, Rule
from ipsecd.quoting import few, quote
from ipsecd.sources.names import dns_names_in
from ipsecd.sources.static import KEEP, Kept


def _put_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    stored = engine.loaded.policies.get(name)
    if stored is None and not request["create"]:
        engine.stored(name)
    policy = stored.policy if stored else Policy(name)
    for parameters in request["rules"]:
        # DNS names stay names in the document. Their addresses are stored in a file of their own.
        rule = Rule(
            parameters["name"],
            tuple(map(parse_filter, parameters["filters"])),
            read_action(parameters["action"]),
            parse_conditions(parameters.get("interface") or None, parameters.get("when")),
        )
        policy = policy.with_rule(rule)
    assign = bool(request["assign"])
    differs = stored is None or policy != stored.policy
    changed = needs_storing(engine, policy, differs=differs, assign=assign)
    lines = Difference(stored.policy if stored else None, policy).lines()
    if request["dry_run"]:
        return _would_be(engine, policy, lines, changed=changed, assign=assign)
    kept = Kept()
    if changed:
        assigned = name if assign else KEEP
        kept = engine.change(put=[policy], assign=assigned, names=request.names)
    rules = [repr(rule["name"]) for rule in request["rules"]]
    verb = f"rules {few(rules)} are" if len(rules) > 1 else f"rule {few(rules)} is"
    message = f"{verb} stored in policy {name!r}"
    reply = outcome(engine, message, changed=changed, changes=lines, warns=True, stored=policy)
    return of_this_host(engine, with_losses(reply, kept))


def _remove_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    policy = engine.stored(name)
    names = frozenset(request["rules"])
    missing = sorted(names - {rule.name for rule, _ in policy.written_rules()})
    if missing:
        raise NotFound(
            f"policy {name!r} has no rule {quote(missing[0])}",
            f"run: ipsecctl policy show {name!r}",
        )
    reduced = policy.without_rules(names)
    lines = Difference(policy, reduced).lines()
    if request["dry_run"]:
        return _would_be(engine, reduced, lines, changed=True, assign=False)
    if reduced.rules or reduced.resting or not request["delete_empty"]:
        kept = engine.change(put=[reduced])
        message = f"{len(names)} rules are removed from policy {name!r}"
        reply = outcome(engine, message, changes=lines, stored=reduced)
        return of_this_host(engine, with_losses(reply, kept))
    if engine.loaded.assigned == name:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    message = f"policy {name!r} is deleted with all its rules"
    return of_this_host(engine, outcome(engine, message, changes=lines))


def _would_be(
    engine: Engine, policy: Policy, lines: Sequence[str], *, changed: bool, assign: bool
) -> dict[str, Any]:
    """What a dry run says of a policy that would be stored."""
    if assign or engine.loaded.assigned == policy.name:
        must_be_met(policy)
    message = f"policy {policy.name!r} would {'be changed' if changed else 'stay as it is'}"
    reply = outcome(engine, message, changed=changed, changes=lines, stored=policy)
    return of_this_host(engine, reply)


def _names_of_rules(_: Engine, request: Request) -> frozenset[str]:
    texts = (text for rule in request["rules"] for text in rule["filters"])
    return dns_names_in(map(parse_filter, texts))


METHODS = (
    Method(
        "PutRules", Role.CHANGE, Work.CHANGE, _put_rules, names=_names_of_rules, part=Part.POLICIES
    ),
    Method("RemoveRules", Role.CHANGE, Work.CHANGE, _remove_rules, part=Part.POLICIES),
)
