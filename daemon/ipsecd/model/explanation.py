"""Owns explaining a packet: what is decided and why, also when it is forwarded; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import Exemption
from ipsecd.model.packets import Host, Packet
from ipsecd.model.source_ports import (
    PortsDecision,
    decisions_by_source_port,
    matching_some_port,
)
from ipsecd.model.values import Action, InForce


@dataclass(frozen=True, slots=True)
class Explanation:
    """A packet and the decision about it.

    ``leaving`` is the explanation of the same packet when it is forwarded and leaves under an
    address of this host; None if it is blocked, or is not to be forwarded. ``known`` is that of
    such a packet which is part of an open connection; None if there is no difference.
    ``source_ports`` are the decisions for every source port, if the packet can have any; the
    decision itself is then for the source port that it has. ``connections_count`` says that a
    filter in force asks whether packets open a connection.
    """

    packet: Packet
    decision: Decision
    leaving: Explanation | None = None
    known: Explanation | None = None
    source_ports: tuple[PortsDecision, ...] = ()
    connections_count: bool = False


@dataclass(frozen=True, slots=True)
class _Judge:
    """What judges packets, which have any source port or the one they have."""

    host: Host
    exemptions: tuple[Exemption, ...]
    any_source_port: bool

    def judge(
        self, filters: Sequence[InForce], packet: Packet
    ) -> tuple[Explanation, tuple[InForce, ...]]:
        """The verdict on one packet at one point, and the filters that match it."""
        if not self.any_source_port:
            decision = decide(filters, packet, self.host, self.exemptions)
            told = filter(None, (decision.audited, decision.by))
            return Explanation(packet, decision), (*told, *decision.beaten)
        matching = matching_some_port(filters, packet, self.host)
        decision = decide(matching, packet, self.host, self.exemptions)
        ports = decisions_by_source_port(matching, packet, self.host, self.exemptions)
        return Explanation(packet, decision, source_ports=ports), matching


def explain(
    in_force: Iterable[InForce],
    packet: Packet,
    host: Host,
    exemptions: Iterable[Exemption] = (),
    *,
    any_source_port: bool = False,
) -> Explanation:
    """What the filters `in_force` do with `packet` on `host`; raises as ``decide`` does."""
    filters = tuple(in_force)
    judge = _Judge(host, tuple(exemptions), any_source_port)
    explanation, matching = judge.judge(filters, packet)
    leaving_packet = packet.leaving(host)
    leaving, matching_leaving = None, None
    if leaving_packet and explanation.decision.action is Action.PERMIT:
        leaving, matching_leaving = judge.judge(filters, leaving_packet)
    explanation = replace(explanation, leaving=leaving)
    connections_count = any(candidate.conditions.opening for candidate in filters)
    if packet.opening and connections_count:
        known, _ = judge.judge(_for_known(matching), replace(packet, opening=False))
        if leaving_packet and known.decision.action is Action.PERMIT:
            # What matches a packet of a known connection matches one that opens it, too.
            rest = filters if matching_leaving is None else matching_leaving
            arrived = replace(packet, opening=False)
            as_known = replace(leaving_packet, opening=False, arrived=arrived)
            known = replace(known, leaving=judge.judge(_for_known(rest), as_known)[0])
        if _verdicts(known) != _verdicts(explanation):
            explanation = replace(explanation, known=known)
    return replace(explanation, connections_count=connections_count)


def _for_known(filters: Sequence[InForce]) -> tuple[InForce, ...]:
    """Those that can match a packet of a connection which the host knows."""
    return tuple(candidate for candidate in filters if not candidate.conditions.opening)


def _verdicts(explanation: Explanation | None) -> object:
    """All that is decided, without what is beaten."""
    if explanation is None:
        return None
    decision = replace(explanation.decision, beaten=())
    return decision, explanation.source_ports, _verdicts(explanation.leaving)
