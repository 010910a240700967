"""Owns how it is told that something outranks a rule, or blocks an address all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ipsecd.engine import Engine
from ipsecd.engine.contradictions import Contradiction, blocks_of, outranking
from ipsecd.engine.contradictions import overruled as overruling
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


def overruled(
    engine: Engine,
    is_asked_about: Callable[[Origin], bool],
    added: tuple[str, AddressList] | None = None,
) -> list[str]:
    """A sentence for each rule that is asked about and of which protected filters overrule a block.

    With the name of a list and what was `added` to it, only of what these entries would block.
    """
    return [
        f"{_packet(each.packet)} still passes: permit {format_filter(each.by)}, which the "
        f"configuration protects, outranks block {format_filter(each.block)} of {_place(each.rule)}"
        for each in overruling(engine.state, _host, is_asked_about, added)
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
