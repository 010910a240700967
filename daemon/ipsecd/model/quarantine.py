"""Owns what a quarantine blocks and permits; must not know what else is in force, nor since when.

A wide block alone would not hold: a narrower permit outranks it. So every permit in force is
blocked as well, where it concerns whoever is in quarantine; at the same rank a dynamic block beats
it. What the operator permits is left out of those blocks, or permitted as narrowly as they block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Address, Keyword, Network, Process, Selector
from ipsecd.model.values import (
    ICMP,
    ICMP_VERSIONS,
    Action,
    Endpoint,
    Filter,
    InterfaceType,
    PortRange,
)

PERMITTED = "quarantine {}: permitted"
INTERFACES: Mapping[InterfaceType | None, str] = {
    None: "quarantine {}",
    **{kind: f"quarantine {{}}: on {kind.value}" for kind in InterfaceType},
}
PATTERNS = (*INTERFACES.values(), PERMITTED)
"""The names of the dynamic rules of a quarantine; {} stands for who is in it."""

Permit = tuple[Filter, InterfaceType | None]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Who is cut off from everything but what the operator permits; ``name`` says who in words.

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

    @property
    def rule_names(self) -> tuple[str, ...]:
        """The names of all dynamic rules that it can have."""
        return tuple(pattern.format(self.name) for pattern in PATTERNS)


@dataclass(frozen=True, slots=True)
class Part:
    """What one of the dynamic rules of a quarantine does; ``pattern`` is that of its name."""

    pattern: str
    action: Action
    interface_type: InterfaceType | None
    filters: tuple[Filter, ...]


def parts(
    who: Keyword | Selector, permits: Iterable[Filter], others: Iterable[Permit]
) -> tuple[Part, ...]:
    """The dynamic rules of a quarantine of `who`, which is this host or containers.

    `permits` are the operator's; `others` are the permits in force, each with its interface type.
    """
    permitted = {way: None for one in permits for way in _ways(one)}
    blocked: dict[InterfaceType | None, dict[Filter, None]] = {kind: {} for kind in INTERFACES}
    for one, interface in others:
        for way in _ways(one):
            for narrowed in _narrowed(way, who):
                overlaps = {_intersection(narrowed, permit) for permit in permitted}
                if narrowed not in overlaps:
                    blocked[interface][narrowed] = None
                    # Where the two overlap, the permit must be the more specific one.
                    permitted |= dict.fromkeys(overlap for overlap in overlaps if overlap)
    found = []
    if permitted:
        found.append(Part(PERMITTED, Action.PERMIT, None, tuple(permitted)))
    everything = Filter(Endpoint(who), Endpoint(), mirrored=True)
    for kind, pattern in INTERFACES.items():
        filters = (*([everything] if kind is None else []), *blocked[kind])
        if filters:
            found.append(Part(pattern, Action.BLOCK, kind, filters))
    return tuple(found)


def _ways(one: Filter) -> Iterator[Filter]:
    """The filter in each of its directions."""
    yield replace(one, mirrored=False)
    if one.mirrored:
        yield replace(one, source=one.destination, destination=one.source, mirrored=False)


def _narrowed(way: Filter, who: Address) -> Iterator[Filter]:
    """What of `way` concerns `who`, as source and as destination."""
    if isinstance(way.source.address, Process):
        # Who sends it is this host, and never a container.
        if who is Keyword.ME:
            yield way
        return
    for one in (
        replace(way, source=replace(way.source, address=who)),
        replace(way, destination=replace(way.destination, address=who)),
    ):
        if not one.source.address == one.destination.address == Keyword.ME:
            yield one


def _intersection(one: Filter, other: Filter) -> Filter | None:
    """What both filters match, as far as a filter can say it; None if that is nothing."""
    ends = []
    for left, right in ((one.source, other.source), (one.destination, other.destination)):
        address = _both(left.address, right.address)
        ports = _common_ports(left.ports, right.ports)
        if address is None or ports is None:
            return None
        ends.append(Endpoint(address, ports))
    protocols = {p.protocol for p in (one, other)} - {None}
    if ICMP in protocols and protocols <= ICMP_VERSIONS.keys():
        protocols = protocols - {ICMP} or protocols
    message = one.message or other.message
    if one.message and other.message:
        message = one.message.common(other.message)
        if message is None:
            return None
        if message not in (one.message, other.message) and None in (message.ipv4, message.ipv6):
            protocols = {58 if message.ipv4 is None else 1}
    if len(protocols) > 1:
        return None
    try:
        return replace(
            one,
            source=ends[0],
            destination=ends[1],
            protocol=protocols.pop() if protocols else None,
            mirrored=False,
            message=message,
        )
    except InvalidInput:
        return None


def _both(one: Address, other: Address) -> Address | None:
    if one == other or other is Keyword.ANY:
        return one
    if one is Keyword.ANY:
        return other
    if isinstance(one, Process) and other is Keyword.ME:
        return one
    if isinstance(one, Network) and isinstance(other, Network) and one.family is other.family:
        wide, narrow = sorted((one, other), key=lambda network: network.length)
        return narrow if narrow.address in wide else None
    return None


def _common_ports(
    one: tuple[PortRange, ...], other: tuple[PortRange, ...]
) -> tuple[PortRange, ...] | None:
    if not one or not other:
        return one or other
    common = tuple(
        PortRange(first, last)
        for a in one
        for b in other
        if (first := max(a.first, b.first)) <= (last := min(a.last, b.last))
    )
    return common or None
