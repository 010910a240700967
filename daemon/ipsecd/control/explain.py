"""Owns the methods that tell which filters are in force, and which of them decides on a packet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ipsecd.backend.nftables import cgroups
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import must_be_known, remaining_s
from ipsecd.engine import Engine
from ipsecd.host.interfaces import read_host
from ipsecd.language.explanations import explanation_to_json
from ipsecd.language.filters import format_filter
from ipsecd.language.packets import parse_packet, to_packet
from ipsecd.model.addresses import Process
from ipsecd.model.explanation import explain


def _list_filters(engine: Engine, _: Request) -> dict[str, Any]:
    must_be_known(engine)
    remaining = {rule.name: remaining_s(engine, rule) for rule in engine.dynamic}
    filters = [
        {
            "store": one.origin.store,
            "policy": one.origin.policy,
            "rule": one.origin.rule,
            "filter": format_filter(one.filter),
            "action": one.action.value,
            "interface": one.interface_type.value if one.interface_type else None,
            "remaining_s": remaining.get(one.origin.rule) if one.origin.volatile else None,
        }
        for one in engine.in_force()
    ]
    return {"filters": filters}


def _explain(engine: Engine, request: Request) -> dict[str, Any]:
    must_be_known(engine)
    state = read_host()
    filters = engine.in_force()
    text = parse_packet(request["packet"])
    packet = to_packet(text, state.host, state.types, engine.inventory.addresses)
    if text.sender:
        named = {one.filter.source.address for one in filters}
        senders = {p for p in named if isinstance(p, Process) and cgroups.holds(p, text.sender)}
        packet = replace(packet, processes=packet.processes | senders)
    exemptions = () if engine.stopped else engine.config.exemptions
    found = explain(filters, packet, state.host, exemptions)
    return {"explanation": explanation_to_json(found)}


METHODS = (
    Method("ListFilters", Role.VIEW, Work.LONG, _list_filters),
    Method("Explain", Role.VIEW, Work.LONG, _explain),
)
