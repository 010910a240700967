"""Owns what programs make of a policy: they know neither connections nor the names of links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ipsecd.model.packets import Packet
from ipsecd.model.values import Action, Conditions, InForce, LinkName


def as_programs_know(filters: Iterable[InForce], packet: Packet) -> tuple[list[InForce], Packet]:
    """The filters and the packet with which ``decide`` says what programs do with the packet.

    What may match a filter that asks for more than programs know is passed on, with its rank.
    """
    return [_known(member, packet) for member in filters], replace(packet, opening=True)


def _known(member: InForce, packet: Packet) -> InForce:
    conditions = member.conditions
    if not conditions.opening and conditions.interface_name is None:
        return member
    interface = conditions.interface
    if conditions.interface_name is not None:
        interface = LinkName(packet.interface)
    return replace(
        member, action=Action.PERMIT, conditions=Conditions(interface, conditions.opening)
    )
