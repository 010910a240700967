"""Owns how it is told that something outranks a rule, or blocks an address all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ipsecd.engine import Engine
from ipsecd.engine.contradictions import (
    Contradiction,
    Overruled,
    blocks_of,
    outranking,
    overruled_entries,
    overruled_policy,
    overruled_rules,
)
from ipsecd.errors import InvalidInput
from ipsecd.host.interfaces import read_host
from ipsecd.language.filters import format_filter, parse_short
from ipsecd.language.packets import format_packet
from ipsecd.model.addresses import HostName, Network
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Origin
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule, address_alone


def outranked(engine: Engine, rules: Sequence[DynamicRule]) -> list[dict[str, Any]]:
    """What decides against `rules`, as the type ``Outranked`` of the interface."""
    return [
        {
            "filter": format_filter(each.wanted),
            "by": _reference(each),
            "packet": _packet(each.packet),
        }
        for each in outranking(engine.state, rules, engine.overlaps, _host)
    ]


def still_blocked(engine: Engine, selectors: Iterable[str]) -> list[dict[str, Any]]:
    """What blocks the addresses among `selectors`, as the type ``StillBlocked``."""
    blocks = []
    for selector in selectors:
        try:
            address = address_alone(parse_short(selector))
        except InvalidInput:
            continue
        networks = engine.names.get(address.name, ()) if isinstance(address, HostName) else ()
        if isinstance(address, Network):
            networks = (address,)
        for network in networks:
            blocks += [
                {"address": selector, "by": _reference(each)}
                for each in blocks_of(engine.state, network, engine.overlaps, _host)
            ]
    return blocks


def policy_overruled(engine: Engine) -> list[str]:
    """A sentence for each rule of the policy of which a protected filter overrules a block."""
    return _sentences(overruled_policy(engine.state, _host))


def rules_overruled(engine: Engine, rules: Sequence[DynamicRule]) -> list[str]:
    """The same of dynamic rules."""
    return _sentences(overruled_rules(engine.state, rules, _host))


def entries_overruled(engine: Engine, name: str, entries: AddressList) -> list[str]:
    """The same of what rules block by some entries of a list."""
    return _sentences(overruled_entries(engine.state, name, entries, _host))


def _sentences(overruled: Iterable[Overruled]) -> list[str]:
    return [
        f"{_packet(each.packet)} still passes: permit {format_filter(each.by)}, which the "
        f"configuration protects, outranks block {format_filter(each.block)} of {_place(each.rule)}"
        for each in overruled
    ]


def _place(origin: Origin) -> str:
    if origin.volatile:
        return f"dynamic rule {quote(origin.rule)}"
    return f"rule {quote(origin.rule)} of policy {quote(origin.policy)}"


def _host() -> Host:
    return read_host().host


def _reference(contradiction: Contradiction) -> dict[str, str]:
    origin = contradiction.origin
    return {
        "store": origin.store,
        "policy": origin.policy,
        "rule": origin.rule,
        "filter": format_filter(contradiction.by),
        "action": contradiction.action.value,
    }


def _packet(packet: Packet) -> str:
    text = format_packet(packet)
    if packet.interface:
        text += f" {'in' if packet.point is Point.ARRIVING else 'out'} {packet.interface}"
    return "".join([text, *(f" by {sender}" for sender in packet.processes)])
