"""Owns the JSON of what is decided differently, and its lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipsecd.language.explanations import verdict_to_json
from ipsecd.language.packets import format_packet
from ipsecd.model.packets import Point
from ipsecd.proof.changes import Changed, Changes, Surroundings
from ipsecd.quoting import count

SHOWN = 20
"""How many classes of packets people are told of."""


def changes_to_json(found: Changes, surroundings: Surroundings) -> dict[str, Any]:
    """What is decided differently, as the type ``Verdicts`` of the interface."""
    unparsable = found.unparsable
    return {
        "equal": not found,
        "classes": [_class_to_json(one, surroundings) for one in found.examples],
        "more": found.more,
        "unparsable": unparsable[1].value if unparsable else None,
    }


def lines_of_changes(verdicts: dict[str, Any]) -> Iterator[str]:
    """The same for people, of what ``changes_to_json`` gives."""
    if verdicts["equal"]:
        yield "no packet is decided differently, which is proven"
        return
    for one in verdicts["classes"][:SHOWN]:
        before, now = one["before"], one["now"]
        yield f"{before['decision']} becomes {now['decision']}: {one['packet']}{_where(one)}"
        yield f"  before: {_by(before)}"
        yield f"  then:   {_by(now)}"
    more = max(0, len(verdicts["classes"]) - SHOWN) + verdicts["more"]
    if more:
        yield f"and what {count(more, 'more pair')} of filters or rules decide differently"
    if verdicts["unparsable"] == "block":
        yield "packets whose headers cannot be read are dropped, as something is blocked then"
    elif verdicts["unparsable"]:
        yield "packets whose headers cannot be read pass, as nothing is blocked any more"


def _class_to_json(one: Changed, surroundings: Surroundings) -> dict[str, Any]:
    packet = one.packet
    seen = packet.arrived or packet
    return {
        "packet": format_packet(seen, host=surroundings.host),
        "point": packet.point.value,
        "version": int(packet.family),
        "interface_type": seen.interface_type.value if seen.interface_type else None,
        "leaving_by": packet.interface if packet.point is Point.LEAVING else None,
        "before": verdict_to_json(one.before),
        "now": verdict_to_json(one.now),
    }


def _where(one: dict[str, Any]) -> str:
    """What is to be said about the packet that its text does not say."""
    if one["leaving_by"] is None:
        return ""
    link = f" by {one['leaving_by']}" if one["leaving_by"] else ""
    return f", when it leaves under this host's address{link}"


def _by(verdict: dict[str, Any]) -> str:
    by = verdict["by"]
    if by is None:
        return str(verdict["reason"])
    policy = f"{by['policy']!r} / " if by["policy"] else ""
    return f"{by['action']} {by['filter']}  ({by['store']}: {policy}{by['rule']!r})"
