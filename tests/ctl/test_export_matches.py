"""The lines of an export, evaluated one after the other, decide as the filters do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ipsecctl.exporting.matches import Line, lines_of, matches_of, ranked
from ipsecd.model.addresses import Family
from ipsecd.model.decide import decide
from ipsecd.model.fields import FIELDS, ME, Field, Kind, Listed
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action, InForce
from tests.equality.rows import BLOCK, PERMIT
from tests.equality.rows import in_force as written
from tests.strategies import HOST, conditions, in_force, lists, packets


def fits(field: Field, value: Any, packet: Packet, host: Host) -> bool:
    """Whether a packet has what a line wants of one field."""
    if field.kind is Kind.PREFIX:
        length, address = value
        if length == ME:
            assert field.mine
            return field.mine(host, packet)
        seen = field.seen(packet)
        if isinstance(length, Listed):
            return length.length in host.lists[length.name].covering(packet.family, seen)
        return bool((seen ^ address) >> (packet.family.bits - length) == 0)
    if field.kind is Kind.WORD:
        return not value or value in field.seen(packet)
    seen = field.seen(packet)
    if value is None:
        return True
    if field.kind is Kind.NUMBER:
        return bool(seen == value)
    return seen is not None and value[0] <= seen <= value[1]


def meets(line: Line, packet: Packet, host: Host) -> bool:
    if line.family is not packet.family:
        return False
    as_arrived = packet.point is Point.LEAVING and line.choice("source")[0][0] != ME
    judged = (packet.arrived or packet) if as_arrived else packet
    return all(
        any(fits(field, value, judged, host) for value in choice)
        for field, choice in zip(FIELDS, line.choices, strict=True)
    )


def action_by_lines(lines: list[Line], packet: Packet, host: Host) -> Action:
    for line in lines:
        if line.action is not Action.AUDIT and meets(line, packet, host):
            return line.action
    return Action.PERMIT


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    in_force(16, asked=conditions(), listing=True),
    st.lists(packets(), min_size=40, max_size=60),
    lists(),
)
def test_the_first_line_that_fits_decides(
    filters: list[InForce], judged: list[Packet], of_now: Mapping[str, AddressList]
) -> None:
    """At every point, whatever is put together: here all filters of one action are one rule."""
    host = replace(HOST, lists=of_now)
    of_rules = [replace(one, origin=replace(one.origin, rule=one.action.value)) for one in filters]
    matches = [*matches_of(with_lengths(of_rules, of_now))]
    lines = {point: [*lines_of(ranked(matches, point))] for point in Point}
    for packet in judged:
        if packet.parsed and packet.interface_type is not None:
            wanted = decide(filters, packet, host).action
            assert action_by_lines(lines[packet.point], packet, host) is wanted, packet


def test_lines_are_put_together_within_a_run() -> None:
    """Addresses of one rule are one line, unless a filter of the other action comes between."""
    filters = [
        replace(one, origin=replace(one.origin, rule=one.action.value))
        for one in written(("[10.1.0.1=0]", "[10.1.0.2=0]", "(10.1.0.0/24=0)", "[10.0.0.0/8=0]"))
    ]
    lines = list(lines_of(ranked(matches_of(filters), Point.ARRIVING)))
    assert [line.action for line in lines] == [BLOCK, PERMIT, BLOCK]
    assert [len(line.choice("source")) for line in lines] == [2, 1, 1]
    assert {line.family for line in lines} == {Family.IPV4}
