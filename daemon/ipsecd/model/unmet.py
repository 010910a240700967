"""Owns whether a policy does what its author expects; pure, and the same on every host.

``decide`` judges each packet by the filters of the policy alone: without dynamic rules,
exemptions and settings. What a host knows, a filter cannot: ``me`` is an address that no filter
names, and DNS names, containers, networks and labels stand for nobody. Lists have the entries that
are given, and on a host none. Where the policy is tried as audits, it is judged as if it blocked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.decide import Decision, decide
from ipsecd.model.expectations import SOME_HOST, Expectation
from ipsecd.model.lists import AddressList
from ipsecd.model.nearness import NO_LISTS, Nearness
from ipsecd.model.packets import Host, Packet
from ipsecd.model.source_ports import decisions_by_source_port
from ipsecd.model.unnamed import Unnamed
from ipsecd.model.values import InForce, Origin, Policy, Store
from ipsecd.quoting import quote

MAX_COMPARED = 10_000_000
"""Pairs of a packet and a filter that can match any of the packets, at up to 3 µs a pair."""
MAX_JUDGED = 500_000
"""Pairs of a packet and a filter that can match that packet, at up to 80 µs a pair."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """An expectation, and what becomes of its packet instead; what was beaten is left out.

    ``source_ports`` are the first and the last of the ports from which that becomes of it, if it
    is expected of all; the first such range is told.
    """

    expectation: Expectation
    decision: Decision
    source_ports: tuple[int, int] | None = None


def unmet(policy: Policy, lists: Mapping[str, AddressList] = NO_LISTS) -> tuple[Unmet, ...]:
    """What of the expectations of `policy` is not so, in their order.

    Takes one pass over the filters for all packets, and ``decide`` for each packet over those that
    can match it. Raises ``LimitExceeded`` where that would take more than a minute or so. The rules
    of a policy that expects nothing are not looked at.
    """
    if not policy.expect:
        return ()
    host = replace(_host_for(policy), lists=lists)
    expected = [
        replace(expectation, packet=_as_seen(expectation.packet, host))
        for expectation in policy.expect
    ]
    filters = tuple(_filters_near(policy, _nearness(expected, lists)))
    _check_pairs(policy, len(expected) * len(filters), MAX_COMPARED)
    judged = 0
    found = []
    for original, expectation in zip(policy.expect, expected, strict=True):
        nearness = _nearness([expectation], lists)
        near = [candidate for candidate in filters if nearness.has_both(candidate.filter)]
        judged += sum(map(_times_judged, near)) if expectation.any_source_port else len(near)
        _check_pairs(policy, judged, MAX_JUDGED)
        failing = _failing(expectation, near, host)
        if failing:
            found.append(replace(failing, expectation=original))
    return tuple(found)


def _failing(expectation: Expectation, near: Sequence[InForce], host: Host) -> Unmet | None:
    """How an expectation is not met by the filters that are near its packet; None if it is."""
    packet = expectation.packet
    if not expectation.any_source_port:
        decision = decide(near, packet, host)
        if decision.action is expectation.action:
            return None
        return Unmet(expectation, replace(decision, beaten=()))
    for ports in decisions_by_source_port(near, packet, host):
        if ports.decision.action is not expectation.action:
            return Unmet(expectation, ports.decision, (ports.first, ports.last))
    return None


def _times_judged(candidate: InForce) -> int:
    """How often a filter is asked about a packet that can come from any port."""
    return 1 + 2 * (len(candidate.filter.source.ports) + len(candidate.filter.destination.ports))


def _check_pairs(policy: Policy, pairs: int, most: int) -> None:
    if pairs > most:
        raise LimitExceeded(
            f"policy {quote(policy.name)} expects too much to be judged: its "
            f"{len(policy.expect):,} expectations meet more than {most:,} filters together",
            "leave out expectations, or merge filters that match the same packets",
        )


def _nearness(expected: Sequence[Expectation], lists: Mapping[str, AddressList]) -> Nearness:
    return Nearness(
        (expectation.packet for expectation in expected),
        any_source_port=any(expectation.any_source_port for expectation in expected),
        lists=lists,
    )


def _filters_near(policy: Policy, near: Nearness) -> Iterator[InForce]:
    for rule in policy.rules:
        origin = Origin(Store.STATIC.value, policy.name, rule.name)
        for member in rule.filters:
            if near.has_both(member):
                yield InForce(origin, member, rule.action, rule.conditions)


def _host_for(policy: Policy) -> Host:
    """A host with an address of each IP version that neither filters nor packets name.

    Where networks cover all that there are, it has the one that stands in expectations.
    """
    packets = [expectation.packet for expectation in policy.expect]
    unnamed = Unnamed(
        (member for rule in policy.rules for member in rule.filters),
        ((p.family, side) for p in packets for side in (p.source, p.destination)),
    )
    standing = dict(SOME_HOST.addresses)
    return Host(frozenset((family, unnamed.take(family) or standing[family]) for family in Family))


def _as_seen(packet: Packet, host: Host) -> Packet:
    """The packet with the address of `host` in the place of that of ``SOME_HOST``."""
    standing, own = dict(SOME_HOST.addresses)[packet.family], dict(host.addresses)[packet.family]
    return replace(
        packet,
        source=own if packet.source == standing else packet.source,
        destination=own if packet.destination == standing else packet.destination,
    )
