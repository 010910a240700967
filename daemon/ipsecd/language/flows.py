"""Owns the JSON of recorded flows; the daemon tells them in it, and ``ipsecctl learn`` reads it."""

from __future__ import annotations

from typing import Any

from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import format_value, parse_address
from ipsecd.language.moments import format_moment, parse_moment
from ipsecd.model.addresses import Family, Network
from ipsecd.model.flows import Flow, Recorded
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin
from ipsecd.quoting import quote

DIRECTIONS = {Point.ARRIVING: "in", Point.SENDING: "out", Point.LEAVING: "forward"}
POINTS = {word: point for point, word in DIRECTIONS.items()}


def flow_to_json(recorded: Recorded, origin: Origin) -> dict[str, Any]:
    """A flow that the rule of `origin` noted, as the type ``AuditedFlow`` of the interface."""
    flow = recorded.flow
    return {
        "store": origin.store,
        "policy": origin.policy,
        "rule": flow.rule,
        "direction": DIRECTIONS[flow.point],
        "protocol": flow.protocol,
        "source": format_value(flow.family, flow.source),
        "source_port": flow.source_port,
        "destination": format_value(flow.family, flow.destination),
        "destination_port": flow.destination_port,
        "icmp_type": flow.icmp_type,
        "icmp_code": None if flow.icmp_type is None else flow.icmp_code,
        "interface": flow.interface or None,
        "packets": recorded.packets,
        "first": format_moment(recorded.first_ns),
        "last": format_moment(recorded.last_ns),
    }


def flow_from_json(told: dict[str, Any]) -> Recorded:
    """The same flow again; raises ``InvalidInput`` for what is none."""
    family, source = _address(told["source"])
    other, destination = _address(told["destination"])
    if family is not other or told["direction"] not in POINTS:
        raise InvalidInput(f"{quote(told['source'])} to {quote(told['destination'])} is no flow")
    flow = Flow(
        told["rule"],
        POINTS[told["direction"]],
        family,
        told["protocol"],
        source,
        destination,
        told["source_port"],
        told["destination_port"],
        told["icmp_type"],
        told["icmp_code"] or 0,
        told["interface"] or "",
    )
    return Recorded(flow, told["packets"], time_ns(told["first"]), time_ns(told["last"]))


def time_ns(text: str) -> int:
    """A time as RFC 3339 has it in nanoseconds since the epoch; raises ``InvalidInput``."""
    try:
        return parse_moment(text)
    except (InvalidInput, TypeError) as error:
        raise InvalidInput(f"{quote(text)} is no time", "times are as RFC 3339 has them") from error


def _address(text: str) -> tuple[Family, int]:
    address = parse_address(f"[{text}]" if ":" in text else text)
    if not isinstance(address, Network) or address.length != address.family.bits:
        raise InvalidInput(f"{quote(text)} is no address of a host")
    return address.family, address.address
