"""Owns the JSON of explanations, which is the same from the daemon and without one."""

from __future__ import annotations

from typing import Any

from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.model.explanation import Explanation
from ipsecd.model.values import InForce


def explanation_to_json(found: Explanation) -> dict[str, Any]:
    """As the type ``Explanation`` of the interface has it."""
    leaving = _judgement(found.leaving) if found.leaving else None
    return {**_judgement(found), "leaving": leaving}


def answer_to_json(found: Explanation) -> dict[str, Any]:
    """As ``explain --offline`` answers for each of many packets: the verdict and the filters."""
    whole = _judgement(found)
    return {name: whole[name] for name in ("decision", "by", "beaten")}


def _judgement(found: Explanation) -> dict[str, Any]:
    by = found.decision.by
    return {
        "decision": found.decision.action.value,
        "reason": found.decision.reason,
        "by": _reference(by) if by else None,
        "beaten": [_reference(one) for one in found.decision.beaten],
        "packet": format_packet(found.packet),
    }


def _reference(one: InForce) -> dict[str, str]:
    return {
        "store": one.origin.store,
        "policy": one.origin.policy,
        "rule": one.origin.rule,
        "filter": format_filter(one.filter),
        "action": one.action.value,
    }
