"""Which connections are cut, by the packets that are blocked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection
from ipsecd.model.packets import Packet, Point

COMING = Packet(Point.ARRIVING, Family.IPV4, 1, 2, 6, 4000, 22, opening=False)
GOING = Packet(Point.SENDING, Family.IPV4, 2, 1, 6, 22, 4000, opening=False)
KNOWN = Connection("c", (COMING,), (GOING,))


@pytest.mark.parametrize("blocked", [COMING, GOING])
def test_a_packet_of_one_direction_is_enough(blocked: Packet) -> None:
    """The packet that is blocked is told."""
    assert KNOWN.cut_by(lambda packet: packet == blocked) == blocked
    assert KNOWN.cut_by(lambda _: False) is None


@pytest.mark.parametrize(
    ("points", "cut"),
    [
        (set(), False),
        ({Point.ARRIVING}, False),
        ({Point.SENDING}, False),
        ({Point.ARRIVING, Point.SENDING}, True),
    ],
)
def test_what_is_not_tracked_begins_anew(points: set[Point], cut: bool) -> None:
    """Of a connection that is not tracked some packet must be let through as the first."""
    unknown = replace(KNOWN, tracked=False)
    decided = unknown.cut_by(lambda packet: packet.opening and packet.point in points)
    assert (decided is not None) is cut
    assert KNOWN.cut_by(lambda packet: packet.opening) is None


@pytest.mark.parametrize("blocked", [Point.ARRIVING, Point.SENDING])
def test_what_is_not_tracked_may_be_cut_if_one_end_alone_may_begin(blocked: Point) -> None:
    """It is not known which of them sends first; what is tracked is cut, or is not."""
    unknown = replace(KNOWN, tracked=False)
    held_up = unknown.held_up_by(lambda packet: packet.opening and packet.point is blocked)
    assert held_up is not None
    assert (held_up.point, held_up.opening) == (blocked, True)
    assert unknown.held_up_by(lambda _: False) is None
    assert KNOWN.held_up_by(lambda _: True) is None


@pytest.mark.parametrize("point", [Point.ARRIVING, Point.SENDING])
def test_what_was_never_answered_may_need_no_answer(point: Point) -> None:
    """What opens it decides, and a block of answers is told apart; unless it is not tracked."""
    asked = replace(KNOWN, inward=(replace(COMING, opening=True),), one_way=True)

    def is_blocked(packet: Packet) -> bool:
        return packet.point is point

    assert (asked.cut_by(is_blocked) is not None) is (point is Point.ARRIVING)
    assert (asked.held_up_by(is_blocked) is not None) is (point is Point.SENDING)
    unknown = replace(KNOWN, tracked=False, one_way=True)
    assert unknown.cut_by(is_blocked) is None
    assert unknown.held_up_by(is_blocked) is not None
    assert unknown.cut_by(lambda _: True) is not None
