"""Owns turning a rule as the interface has it into one of the model; must not know who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipsecd.errors import InvalidInput
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.values import Action, InForce, Origin, Rule
from ipsecd.quoting import quote


def read_rule(parameters: Mapping[str, Any]) -> Rule:
    """The rule that the type ``Rule`` of the interface describes; raises ``InvalidInput``.

    DNS names in its filters stay names.
    """
    return Rule(
        parameters["name"],
        tuple(map(parse_filter, parameters["filters"])),
        read_action(parameters["action"]),
        parse_conditions(parameters.get("interface") or None, parameters.get("when")),
    )


def in_force_parameters(in_force: InForce) -> dict[str, Any]:
    """What a filter in force is, as the type ``FilterInForce`` of the interface begins."""
    return {
        "store": in_force.origin.store,
        "policy": in_force.origin.policy,
        "rule": in_force.origin.rule,
        "filter": format_filter(in_force.filter),
        "action": in_force.action.value,
        "interface": in_force.conditions.interface_text,
        "when": in_force.conditions.when,
    }


def read_in_force(parameters: Mapping[str, Any]) -> InForce:
    """The inverse of ``in_force_parameters``; an older daemon does not say when a rule counts."""
    return InForce(
        Origin(parameters["store"], parameters["policy"], parameters["rule"]),
        parse_filter(parameters["filter"]),
        Action(parameters["action"]),
        parse_conditions(parameters["interface"], parameters.get("when")),
    )


def read_action(text: str) -> Action:
    """The action called `text`, in any letter case; raises ``InvalidInput``."""
    try:
        return Action(text.lower())
    except ValueError:
        raise InvalidInput(
            f"{quote(text)} is not an action", "write block, permit or audit"
        ) from None
