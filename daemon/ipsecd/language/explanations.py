"""Owns the JSON of explanations; ``explain`` and ``explain --offline`` both use it."""

from __future__ import annotations

from typing import Any

from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.model.explanation import Explanation
from ipsecd.model.values import InForce


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation, as the type ``Explanation`` of the interface."""
    leaving = _judgement(explanation.leaving) if explanation.leaving else None
    return {**_judgement(explanation), "leaving": leaving}


def answer_to_json(explanation: Explanation) -> dict[str, Any]:
    """The answer of ``explain --offline`` for each of many packets: the verdict and the filters."""
    judgement = _judgement(explanation)
    return {name: judgement[name] for name in ("decision", "by", "beaten")}


def _judgement(explanation: Explanation) -> dict[str, Any]:
    by = explanation.decision.by
    return {
        "decision": explanation.decision.action.value,
        "reason": explanation.decision.reason,
        "by": _reference(by) if by else None,
        "beaten": [_reference(in_force) for in_force in explanation.decision.beaten],
        "packet": format_packet(explanation.packet),
    }


def _reference(in_force: InForce) -> dict[str, str]:
    return {
        "store": in_force.origin.store,
        "policy": in_force.origin.policy,
        "rule": in_force.origin.rule,
        "filter": format_filter(in_force.filter),
        "action": in_force.action.value,
    }
