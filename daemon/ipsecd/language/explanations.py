"""Owns the JSON of explanations; ``explain`` and ``explain --offline`` both use it."""

from __future__ import annotations

from typing import Any

from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.language.resolved import resolved_names
from ipsecd.model.decide import Decision
from ipsecd.model.explanation import Explanation
from ipsecd.model.source_ports import PortsDecision
from ipsecd.model.values import InForce


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation, as the type ``Explanation`` of the interface."""
    known = explanation.known
    return {
        **_judgement(explanation),
        "leaving": _judgement_or_none(explanation.leaving),
        "established": _judgement_or_none(known),
        "established_leaving": _judgement_or_none(known.leaving if known else None),
        "when_opening": explanation.connections_count,
    }


def answer_to_json(explanation: Explanation) -> dict[str, Any]:
    """The answer of ``explain --offline`` for each of many packets: the verdict and the filters.

    The audit that counts the packet, the verdicts for source ports, and that for an open connection
    are there only if there are any.
    """
    whole = explanation_to_json(explanation)
    more = ("audited", "source_ports", "established", "established_leaving")
    return {
        **{name: whole[name] for name in ("decision", "by", "beaten")},
        **{name: whole[name] for name in more if whole[name] is not None},
    }


def _judgement_or_none(explanation: Explanation | None) -> dict[str, Any] | None:
    return _judgement(explanation) if explanation else None


def _judgement(explanation: Explanation) -> dict[str, Any]:
    ports = explanation.source_ports
    same = len(ports) == 1
    return {
        **verdict_to_json(explanation.decision),
        "beaten": [reference(in_force) for in_force in explanation.decision.beaten],
        "packet": format_packet(explanation.packet, any_source_port=same),
        "source_ports": [_of_ports(one) for one in ports] or None,
    }


def _of_ports(ports: PortsDecision) -> dict[str, Any]:
    return {"first": ports.first, "last": ports.last, **verdict_to_json(ports.decision)}


def verdict_to_json(decision: Decision) -> dict[str, Any]:
    """What is decided, why, by which filter, and which audit counts the packet."""
    return {
        "decision": decision.action.value,
        "reason": decision.reason,
        "by": reference(decision.by) if decision.by else None,
        "audited": reference(decision.audited) if decision.audited else None,
    }


def reference(in_force: InForce) -> dict[str, Any]:
    """A filter in force, as the type ``Reference`` of the interface."""
    names = resolved_names([in_force.filter])
    return {
        "store": in_force.origin.store,
        "policy": in_force.origin.policy,
        "rule": in_force.origin.rule,
        "filter": format_filter(in_force.filter),
        "action": in_force.action.value,
        **({"names": names} if names else {}),
    }
