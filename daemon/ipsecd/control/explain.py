"""Owns the methods that tell which filters are in force, and which of them decides on a packet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ipsecd.backend.nftables import cgroups
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import remaining_s, require_known_state
from ipsecd.engine import Engine
from ipsecd.host.interfaces import read_host
from ipsecd.language.explanations import explanation_to_json
from ipsecd.language.filters import format_filter
from ipsecd.language.packets import parse_packet
from ipsecd.language.resolved import resolved_names
from ipsecd.language.seen import to_packet
from ipsecd.model.addresses import Process
from ipsecd.model.explanation import explain


def _list_filters(engine: Engine, _: Request) -> dict[str, Any]:
    require_known_state(engine)
    remaining = {rule.name: remaining_s(engine, rule) for rule in engine.dynamic}
    filters = [
        {
            "store": in_force.origin.store,
            "policy": in_force.origin.policy,
            "rule": in_force.origin.rule,
            "filter": format_filter(in_force.filter),
            "action": in_force.action.value,
            "interface": in_force.conditions.interface_text,
            "when": in_force.conditions.when,
            "remaining_s": (
                remaining.get(in_force.origin.rule) if in_force.origin.volatile else None
            ),
            "names": resolved_names([in_force.filter]) or None,
        }
        for in_force in engine.in_force()
    ]
    return {"filters": filters}


def _explain(engine: Engine, request: Request) -> dict[str, Any]:
    require_known_state(engine)
    host_state = read_host()
    host = replace(host_state.host, lists=engine.lists)
    filters = engine.in_force()
    described = parse_packet(request["packet"])
    packet = to_packet(described, host, host_state.types, engine.inventory.addresses)
    if described.sender:
        sources = {in_force.filter.source.address for in_force in filters}
        senders = {
            source
            for source in sources
            if isinstance(source, Process) and cgroups.holds(source, described.sender)
        }
        packet = replace(packet, processes=packet.processes | senders)
    exemptions = () if engine.stopped else engine.config.exemptions
    explanation = explain(
        filters,
        packet,
        host,
        exemptions,
        any_source_port=described.any_source_port,
    )
    return {"explanation": explanation_to_json(explanation)}


METHODS = (
    Method("ListFilters", Role.VIEW, Work.LONG, _list_filters),
    Method("Explain", Role.VIEW, Work.LONG, _explain),
)
