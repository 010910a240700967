"""Packets that were sent on the wire, and whether those came that decide lets pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import InForce
from tests.equality.wire import comes, witnessed


def compared(
    numbers: Mapping[int, Packet], filters: Sequence[InForce], host: Host, *told: object
) -> int:
    """How many of the packets, by their numbers, came or not as decide has it; all that can tell.

    `told` is what else is shown of one that does not agree.
    """
    count, passed = 0, witnessed()
    for number, packet in numbers.items():
        way = "in" if packet.point is Point.ARRIVING else "out"
        wanted = decide(filters, packet, host, ESSENTIALS)
        permitted = wanted.action.value == "permit"
        arrived = (f"{way}{packet.family.value}", number) in passed
        if packet.later_fragment and not arrived:
            # Connection tracking, which a permit can need, waits for the first part for ever.
            continue
        if permitted and not arrived:
            arrived = comes(way, packet, number)
        assert arrived == permitted, (packet, wanted, filters, *told)
        count += 1
    return count
