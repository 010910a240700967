"""Owns the verdict on a packet for each source port that it can have; pure.

It is what ``decide`` says of the packet with that port. One pass over all filters keeps those that
match with some source port, and of these each is asked once for each range of ports in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import NamedTuple

from ipsecd.model.decide import Decision, best_first, decide, decision_of, matches_of
from ipsecd.model.exemptions import Exemption
from ipsecd.model.packets import Host, Packet
from ipsecd.model.precedence import Place, Rank
from ipsecd.model.values import MAX_PORT, Action, InForce, Origin

EPHEMERAL = 49152
"""The first of the ports that systems take for themselves (RFC 6335, section 6)."""


@dataclass(frozen=True, slots=True)
class PortsDecision:
    """The decision on a packet from each of a range of source ports; what it beats is left out."""

    first: int
    last: int
    decision: Decision


class _Span(NamedTuple):
    """A range of source ports with which a filter matches; the least of several decides."""

    rank: tuple[Rank, Place]
    origin: Origin
    number: int
    last: int
    candidate: InForce


def matching_some_port(
    in_force: Iterable[InForce], packet: Packet, host: Host
) -> tuple[InForce, ...]:
    """The filters that match `packet` with some source port; raises as ``decide`` does."""
    return tuple(
        candidate
        for candidate in in_force
        if any(True for _ in matches_of(candidate, packet, host, any_source_port=True))
    )


def decisions_by_source_port(
    matching: Sequence[InForce], packet: Packet, host: Host, exemptions: Iterable[Exemption] = ()
) -> tuple[PortsDecision, ...]:
    """The decisions for all source ports, in their order, each for as many ports as have it.

    `matching` are the filters that match the packet with some source port.
    """
    exempt = tuple(exemptions)
    starting: dict[int, list[_Span]] = {}
    bounds = {0, *_bounds_of_exemptions(exempt)}
    for number, candidate in enumerate(matching):
        for first, last in _ranges(candidate):
            seen = with_source_port(packet, first)
            best = min(map(best_first, matches_of(candidate, seen, host)), default=None)
            if best is not None:
                span = _Span(best, candidate.origin, number, last, candidate)
                starting.setdefault(first, []).append(span)
                bounds |= {first, last + 1}
    found: list[PortsDecision] = []
    # An audit that is the first counts the packet, and the first that is none decides.
    every: list[_Span] = []
    deciding: list[_Span] = []
    for first, last in _between(bounds):
        for span in starting.get(first, ()):
            heappush(every, span)
            if span.candidate.action is not Action.AUDIT:
                heappush(deciding, span)
        for spans in (every, deciding):
            while spans and spans[0].last < first:
                heappop(spans)
        decision = decide((), with_source_port(packet, first), host, exempt)
        if decision.reason == "no filter":
            decision = decision_of([spans[0].candidate for spans in (every, deciding) if spans])
            decision = replace(decision, beaten=())
        if found and found[-1].decision == decision:
            found[-1] = replace(found[-1], last=last)
        else:
            found.append(PortsDecision(first, last, decision))
    return tuple(found)


def with_source_port(packet: Packet, port: int) -> Packet:
    """The packet from another source port, also as it arrived."""
    arrived = replace(packet.arrived, source_port=port) if packet.arrived else None
    return replace(packet, source_port=port, arrived=arrived)


def _ranges(candidate: InForce) -> Iterator[tuple[int, int]]:
    """Ranges of source ports, of all of which the filter says the same."""
    member = candidate.filter
    ports = [*member.source.ports, *(member.destination.ports if member.mirrored else ())]
    return _between({0} | {one.first for one in ports} | {one.last + 1 for one in ports})


def _between(bounds: set[int]) -> Iterator[tuple[int, int]]:
    """The first and the last port of each range that begins at one of `bounds`."""
    firsts = sorted(bound for bound in bounds if bound <= MAX_PORT)
    return zip(firsts, [*(first - 1 for first in firsts[1:]), MAX_PORT], strict=True)


def _bounds_of_exemptions(exemptions: Iterable[Exemption]) -> set[int]:
    """Where a range of source ports can begin that an exemption tells from those before it."""
    ports = {pattern.source_port for exempt in exemptions for pattern in exempt.patterns}
    return {bound for port in ports if port is not None for bound in (port, port + 1)}
