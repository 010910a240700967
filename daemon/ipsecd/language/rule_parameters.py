"""Owns turning a rule as the interface has it into one of the model; must not know who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipsecd.errors import InvalidInput
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Rule
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


def read_action(text: str) -> Action:
    """The action called `text`, in any letter case; raises ``InvalidInput``."""
    try:
        return Action(text.lower())
    except ValueError:
        raise InvalidInput(
            f"{quote(text)} is not an action", "write block, permit or audit"
        ) from None
