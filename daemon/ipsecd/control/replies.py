"""Owns the parts of replies that several methods share; must not change the engine."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from ipsecd.control.absences import absences
from ipsecd.control.contradictions import policy_overruled
from ipsecd.engine import Engine
from ipsecd.errors import Refused
from ipsecd.language.expectations import unmet_warnings
from ipsecd.language.filters import format_filter
from ipsecd.language.resolved import resolved_names
from ipsecd.model.values import Policy
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.static import Kept


def outcome(
    engine: Engine,
    message: str,
    *,
    changed: bool = True,
    changes: Sequence[str] = (),
    warns: bool = False,
    stored: Policy | None = None,
) -> dict[str, Any]:
    """The reply to a change.

    With `warns`, it says which filters of the policy match nothing, and which blocks do not hold
    against what the settings protect. It also says what keeps the policy that is `stored` from
    being assigned, if it is not in force.
    """
    warnings = []
    if warns:
        warnings += absences(engine, engine.policy_filters_by_name())
        warnings += policy_overruled(engine)
    if stored and engine.loaded.assigned != stored.name:
        warnings = [*unmet_warnings(stored), *warnings]
    return {
        "outcome": {
            "changed": changed,
            "message": message,
            "changes": list(changes),
            "assigned": engine.loaded.assigned,
            "warnings": warnings,
            "verdicts": None,
            "live": None,
        }
    }


def needs_storing(engine: Engine, policy: Policy, *, differs: bool, assign: bool) -> bool:
    """Whether storing a policy changes anything; `differs` says whether its content would."""
    name = policy.name
    is_assigned = engine.loaded.assigned == name
    return (
        name not in engine.loaded.policies
        or differs
        or (assign and not is_assigned)
        or not engine.is_on_disk(name)
        or (engine.assigned_is_not_in_force and is_assigned)
    )


def of_this_host(engine: Engine, reply: dict[str, Any]) -> dict[str, Any]:
    """The `reply` to a change to the policies of this host, which the domain's may override."""
    overriding = engine.overriding
    if overriding is not None:
        reply["outcome"]["warnings"].insert(
            0,
            f"policy {overriding!r} of the domain is in force in the place of those of this host: "
            "they are stored, and without effect until the domain withdraws it",
        )
    return reply


def with_losses(reply: dict[str, Any], kept: Kept) -> dict[str, Any]:
    """The `reply` to a change, which says whose comments are lost."""
    for name in kept.laid_anew:
        reply["outcome"]["warnings"].append(
            f"the comments and the layout of the file of policy {name!r} could not be kept: it is "
            "written anew, and ipsecctl show @1 has it as it was"
        )
    return reply


def dynamic_rule(engine: Engine, rule: DynamicRule) -> dict[str, Any]:
    """A dynamic rule, as the type ``DynamicRule`` of the interface has it."""
    return {
        "name": rule.name,
        "action": rule.action.value,
        "filters": [format_filter(rule_filter) for rule_filter in rule.filters],
        "interface": rule.conditions.interface_text,
        "when": rule.conditions.when,
        "remaining_s": remaining_s(engine, rule),
        "by": rule.by,
        "created": rule.created,
        "names": resolved_names(rule.filters) or None,
    }


def remaining_s(engine: Engine, rule: DynamicRule) -> float | None:
    """The seconds that a dynamic rule has left; None if it has no end."""
    return None if rule.deadline == inf else max(0.0, rule.deadline - engine.now())


def exemptions(engine: Engine) -> list[dict[str, str]]:
    """The exemptions, which pass before any filter."""
    return [
        {"name": exemption.name, "reason": exemption.reason}
        for exemption in engine.config.exemptions
    ]


def states_of_engines(engine: Engine) -> list[dict[str, Any]]:
    """The container engines that are followed, and the state of each in a word."""
    return [
        {"socket": source, "state": state}
        for source, state in sorted(engine.states_of_container_engines.items())
    ]


def require_known_state(engine: Engine) -> None:
    """Raise ``Refused`` while an earlier daemon's rules are in force and cannot be named."""
    if engine.held:
        raise Refused(
            "what should be in force is not, and what the kernel holds in its place is not known "
            "here",
            "mend what ipsecctl status shows, then run: ipsecctl reload",
        )


def place_in_domain(engine: Engine) -> str:
    """Where the policy of the domain is from, for people."""
    settings, stored = engine.config.domain, engine.domain.stored
    source = settings.source if settings else "the domain"
    return f"{source}: {stored.path}" if stored and stored.path else source
