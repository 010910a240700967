"""Owns the methods that change single rules of a stored policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import needs_storing, of_this_host, outcome, with_losses
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.language.differences import Difference
from ipsecd.language.expectations import must_be_met
from ipsecd.language.filters import parse_filter
from ipsecd.language.rule_parameters import read_rule
from ipsecd.model.policy_changes import (
    reduced,
    words_of_last_removal,
    words_of_put,
    words_of_removal,
)
from ipsecd.model.values import Policy
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
        policy = policy.with_rule(read_rule(parameters))
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
    message = words_of_put(name, [rule["name"] for rule in request["rules"]])
    reply = outcome(engine, message, changed=changed, changes=lines, warns=True, stored=policy)
    return of_this_host(engine, with_losses(reply, kept))


def _remove_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    policy = engine.stored(name)
    names = frozenset(request["rules"])
    remaining = reduced(policy, names)
    lines = Difference(policy, remaining).lines()
    if request["dry_run"]:
        return _would_be(engine, remaining, lines, changed=True, assign=False)
    if remaining.rules or remaining.resting or not request["delete_empty"]:
        kept = engine.change(put=[remaining])
        message = words_of_removal(name, len(names))
        reply = outcome(engine, message, changes=lines, stored=remaining)
        return of_this_host(engine, with_losses(reply, kept))
    if engine.loaded.assigned == name:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    message = words_of_last_removal(name)
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
