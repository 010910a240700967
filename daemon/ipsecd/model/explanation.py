"""Owns explaining a packet: what is decided and why, also when it is forwarded; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import Exemption
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Action, InForce


@dataclass(frozen=True, slots=True)
class Explanation:
    """A packet and the decision about it.

    ``leaving`` is the explanation of the same packet when it is forwarded and leaves under an
    address of this host; None if it is blocked, or is not to be forwarded.
    """

    packet: Packet
    decision: Decision
    leaving: Explanation | None = None


def explain(
    in_force: Iterable[InForce], packet: Packet, host: Host, exemptions: Iterable[Exemption] = ()
) -> Explanation:
    """What the filters `in_force` do with `packet` on `host`; raises as ``decide`` does."""
    filters, exempt = tuple(in_force), tuple(exemptions)
    decision = decide(filters, packet, host, exempt)
    leaving = packet.leaving(host) if decision.action is Action.PERMIT else None
    if leaving is None:
        return Explanation(packet, decision)
    on_leaving = Explanation(leaving, decide(filters, leaving, host, exempt))
    return Explanation(packet, decision, on_leaving)
