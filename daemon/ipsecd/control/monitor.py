"""Owns the method that tells which packets are dropped, and how a packet is told there."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.errors import Refused
from ipsecd.language.addresses import format_address, format_value
from ipsecd.language.filters import format_filter
from ipsecd.language.flows import DIRECTIONS
from ipsecd.language.moments import format_moment
from ipsecd.language.packets import format_packet
from ipsecd.model.packets import Point
from ipsecd.model.sightings import Sighting


def seen_packets(
    sightings: Iterable[Sighting], rules: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Packets as the interface tells of them; with `rules`, those that one of these decided."""
    return [
        seen_packet(sighting)
        for sighting in sightings
        if rules is None or (sighting.origin is not None and sighting.origin.rule in rules)
    ]


def seen_packet(sighting: Sighting) -> dict[str, Any]:
    """A packet, as the type ``SeenPacket`` of the interface."""
    packet, origin = sighting.packet, sighting.origin
    text = format_packet(packet)
    protocol, _, message = text.partition(" ")[0].partition("/")
    if sighting.interface:
        text += f" {'in' if sighting.point is Point.ARRIVING else 'out'} {sighting.interface}"
    return {
        "at": format_moment(sighting.at_ns),
        "action": sighting.action.value,
        "store": origin.store if origin else None,
        "policy": origin.policy if origin else None,
        "rule": origin.rule if origin else None,
        "filter": format_filter(sighting.filter) if sighting.filter else None,
        "list": sighting.list_name or None,
        "entry": format_address(sighting.entry) if sighting.entry else None,
        "direction": DIRECTIONS[sighting.point],
        "interface": sighting.interface or None,
        "packet": text,
        "protocol": protocol,
        "source": format_value(packet.family, packet.source),
        "source_port": packet.source_port,
        "destination": format_value(packet.family, packet.destination),
        "destination_port": packet.destination_port,
        "icmp": message or None,
        "flags": sighting.flags or None,
        "length": sighting.length,
        "process": sighting.process or None,
        "container": sighting.container or None,
        "head": b64encode(sighting.head).decode(),
        "link_type": sighting.link_type,
    }


def _monitor(engine: Engine, request: Request) -> dict[str, Any]:
    """Refuse a call that wants one reply: packets come one after the other."""
    del engine, request
    raise Refused(
        "Monitor replies again and again, and this call asks for one reply",
        'send it with "more": true, as ipsecctl monitor does',
    )


METHODS = (Method("Monitor", Role.VIEW, Work.QUICK, _monitor),)
