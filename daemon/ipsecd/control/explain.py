"""Owns the methods that tell which filters are in force, and which of them decides on a packet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ipsecd.backend.nftables import cgroups
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import remaining_s, require_known_state
from ipsecd.engine import Engine
from ipsecd.engine.state import State
from ipsecd.engine.view import filters_in_force
from ipsecd.host.interfaces import read_host
from ipsecd.language.explanations import explanation_to_json
from ipsecd.language.packets import parse_packet
from ipsecd.language.resolved import resolved_names
from ipsecd.language.rule_parameters import in_force_parameters
from ipsecd.language.seen import to_packet
from ipsecd.model.addresses import Process
from ipsecd.model.exemptions import Exemption
from ipsecd.model.explanation import Explanation, explain
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Host


def _list_filters(engine: Engine, _: Request) -> dict[str, Any]:
    require_known_state(engine)
    remaining = {rule.name: remaining_s(engine, rule) for rule in engine.dynamic}
    of_policy = engine.policy.rules if engine.policy else ()
    name = engine.policy.name if engine.policy else ""
    shared = {(name, rule.name): rule.filter_list for rule in of_policy}
    filters = [
        {
            **in_force_parameters(in_force),
            "remaining_s": (
                remaining.get(in_force.origin.rule) if in_force.origin.volatile else None
            ),
            "names": resolved_names([in_force.filter]) or None,
            "filter_list": shared.get((in_force.origin.policy, in_force.origin.rule)) or None,
        }
        for in_force in engine.in_force()
    ]
    return {"filters": filters}


def _explain(engine: Engine, request: Request) -> dict[str, Any]:
    require_known_state(engine)
    host_state = read_host()
    exemptions = () if engine.stopped else engine.config.exemptions
    explanation = explained(
        request["packet"],
        engine.state,
        host_state.host,
        host_state.types,
        exemptions,
        cgroups.holds,
    )
    return {"explanation": explanation_to_json(explanation)}


def explained(
    text: str,
    state: State,
    host: Host,
    types: Mapping[str, InterfaceType | None],
    exemptions: tuple[Exemption, ...],
    holds: Callable[[Process, Process], bool],
) -> Explanation:
    """What is decided about the packet that `text` describes, by a state; raises ``InvalidInput``.

    `holds` says whether all local processes of the second endpoint are of the first one, too.
    """
    host = replace(host, lists=state.lists)
    filters = filters_in_force(state)
    described = parse_packet(text)
    packet = to_packet(described, host, types, state.inventory.addresses)
    if described.sender:
        sources = {in_force.filter.source.address for in_force in filters}
        senders = {
            source
            for source in sources
            if isinstance(source, Process) and holds(source, described.sender)
        }
        packet = replace(packet, processes=packet.processes | senders)
    return explain(filters, packet, host, exemptions, any_source_port=described.any_source_port)


METHODS = (
    Method("ListFilters", Role.VIEW, Work.LONG, _list_filters),
    Method("Explain", Role.VIEW, Work.LONG, _explain),
)
