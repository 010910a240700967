"""Owns what a quarantine blocks and permits; must not know what else is in force, nor since when.

One wide block is not enough: a narrower permit outranks it. So for every permit in force there is a
block that is as narrow, for whoever is in quarantine; at the same rank a dynamic block wins. What
the operator permits is left out of these blocks, or is permitted as narrowly as they block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Address, Keyword, Network, Process, Selector
from ipsecd.model.values import (
    ALWAYS,
    ICMP,
    ICMP_VERSIONS,
    Action,
    Conditions,
    Endpoint,
    Filter,
    PortRange,
)

_PERMITTED = "permitted"

Permit = tuple[Filter, Conditions]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Who is cut off from everything except what the operator permits; ``name`` is who, in words.

    ``deadline`` is in monotonic seconds, ``inf`` for none; ``created`` in seconds since the epoch;
    ``by`` says who ordered it.
    """

    name: str
    who: Keyword | Selector
    permits: tuple[Filter, ...] = ()
    deadline: float = inf
    created: float = 0.0
    by: str = ""

    @property
    def ends(self) -> bool:
        """Whether it has an end."""
        return self.deadline != inf

    def rule_name(self, part: str) -> str:
        """The name of the dynamic rule for a `part` of it (see ``Part``)."""
        return f"quarantine {self.name}: {part}" if part else f"quarantine {self.name}"

    def owns(self, rule_name: str) -> bool:
        """Whether a dynamic rule of that name is one of this quarantine."""
        whole = self.rule_name("")
        return rule_name == whole or rule_name.startswith(f"{whole}: ")


@dataclass(frozen=True, slots=True)
class Part:
    """One of the dynamic rules of a quarantine; ``name`` tells it from the others, "" for one."""

    name: str
    action: Action
    conditions: Conditions
    filters: tuple[Filter, ...]


def parts_of_quarantine(
    who: Keyword | Selector, permits: Iterable[Filter], permits_in_force: Iterable[Permit]
) -> tuple[Part, ...]:
    """The dynamic rules of a quarantine of `who`, which is this host or containers.

    `permits` are those of the operator. Each of `permits_in_force` has the conditions of its rule.
    """
    permitted = {way: None for permit in permits for way in _ways(permit)}
    everything = Filter(Endpoint(who), Endpoint(), mirrored=True)
    blocked: dict[Conditions, dict[Filter, None]] = {ALWAYS: {everything: None}}
    for permit_in_force, conditions in permits_in_force:
        for way in _ways(permit_in_force):
            for narrowed in _narrowed(way, who):
                overlaps = {_intersection(narrowed, permit) for permit in permitted}
                if narrowed not in overlaps:
                    blocked.setdefault(conditions, {})[narrowed] = None
                    # Where they overlap, the operator's permit must be the narrower one.
                    permitted |= dict.fromkeys(overlap for overlap in overlaps if overlap)
    parts = []
    if permitted:
        parts.append(Part(_PERMITTED, Action.PERMIT, ALWAYS, tuple(permitted)))
    parts += [
        Part(str(conditions), Action.BLOCK, conditions, tuple(filters))
        for conditions, filters in blocked.items()
    ]
    return tuple(parts)


def _ways(flt: Filter) -> Iterator[Filter]:
    """The filter in each of its directions."""
    yield replace(flt, mirrored=False)
    if flt.mirrored:
        yield replace(flt, source=flt.destination, destination=flt.source, mirrored=False)


def _narrowed(way: Filter, who: Address) -> Iterator[Filter]:
    """The filter `way` with `who` as its source, and with `who` as its destination."""
    if isinstance(way.source.address, Process):
        # Local processes send as this host, and never as a container.
        if who is Keyword.ME:
            yield way
        return
    for narrowed in (
        replace(way, source=replace(way.source, address=who)),
        replace(way, destination=replace(way.destination, address=who)),
    ):
        if not narrowed.source.address == narrowed.destination.address == Keyword.ME:
            yield narrowed


def _intersection(first: Filter, second: Filter) -> Filter | None:
    """A filter for what both filters match; None if that is nothing, or no filter can say it."""
    endpoints = []
    for ours, theirs in ((first.source, second.source), (first.destination, second.destination)):
        address = _common_address(ours.address, theirs.address)
        ports = _common_ports(ours.ports, theirs.ports)
        if address is None or ports is None:
            return None
        endpoints.append(Endpoint(address, ports))
    protocols = {flt.protocol for flt in (first, second)} - {None}
    if ICMP in protocols and protocols <= ICMP_VERSIONS.keys():
        protocols = protocols - {ICMP} or protocols
    message = first.message or second.message
    if first.message and second.message:
        message = first.message.common(second.message)
        if message is None:
            return None
        if message not in (first.message, second.message) and None in (message.ipv4, message.ipv6):
            protocols = {58 if message.ipv4 is None else 1}
    if len(protocols) > 1:
        return None
    try:
        return replace(
            first,
            source=endpoints[0],
            destination=endpoints[1],
            protocol=protocols.pop() if protocols else None,
            mirrored=False,
            message=message,
        )
    except InvalidInput:
        return None


def _common_address(first: Address, second: Address) -> Address | None:
    if first == second or second is Keyword.ANY:
        return first
    if first is Keyword.ANY:
        return second
    if isinstance(first, Process) and second is Keyword.ME:
        return first
    if isinstance(first, Network) and isinstance(second, Network) and first.family is second.family:
        wide, narrow = sorted((first, second), key=lambda network: network.length)
        return narrow if narrow.address in wide else None
    return None


def _common_ports(
    ours: tuple[PortRange, ...], theirs: tuple[PortRange, ...]
) -> tuple[PortRange, ...] | None:
    if not ours or not theirs:
        return ours or theirs
    common = tuple(
        PortRange(first, last)
        for our_range in ours
        for their_range in theirs
        if (first := max(our_range.first, their_range.first))
        <= (last := min(our_range.last, their_range.last))
    )
    return common or None
