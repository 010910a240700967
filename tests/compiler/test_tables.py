"""The normal form: what it is made of filters, and its bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.compiler import rows
from ipsecd.compiler.rows import rows_of
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.model.addresses import Address, Family, Keyword, Network
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin, PortRange
from tests.strategies import in_force


def test_lists_of_ports_on_both_sides_are_bounded() -> None:
    """A short filter cannot stand for more entries than memory holds."""
    ports = tuple(PortRange(n, n) for n in range(1, 2001, 2))
    flt = Filter(Endpoint(Keyword.ANY, ports), Endpoint(Keyword.ME, ports), 17)
    rule = InForce(Origin("static", "P", "R"), flt, Action.BLOCK)
    with pytest.raises(LimitExceeded, match="1000000 combinations"):
        list(rows_of([rule]))


@st.composite
def filters_that_differ_in_addresses(draw: st.DrawFn) -> list[InForce]:
    """A long list of a rule as it mostly is: a few forms of addresses, and all else the same."""
    like = draw(in_force(1))[0]
    addresses: list[Address] = [
        Keyword.ANY,
        Keyword.ME,
        *(Network(Family.IPV4, 0x0A090000 + host, 32) for host in (1, 2, 3)),
        *(Network(Family.IPV4, net << 24, 8) for net in (10, 11)),
        *(Network(Family.IPV6, 0xFD09 << 112 | host, 128) for host in (1, 2)),
    ]
    filters = []
    for _ in range(draw(st.integers(1, 12))):
        source, destination = draw(st.sampled_from(addresses)), draw(st.sampled_from(addresses))
        try:
            filters.append(
                replace(
                    like.filter,
                    source=replace(like.filter.source, address=source),
                    destination=replace(like.filter.destination, address=destination),
                    mirrored=draw(st.booleans()),
                )
            )
        except InvalidInput:
            continue
    return [replace(like, filter=flt) for flt in filters]


@settings(max_examples=400, deadline=None)
@given(filters_that_differ_in_addresses())
def test_a_filter_has_the_entries_that_it_has_alone(filters: list[InForce]) -> None:
    """What filters of a list have in common is worked out once, and for each of them rightly."""
    alone: list[rows.Row] = []
    for flt in filters:
        rows._REMEMBERED.clear()
        alone += rows_of([flt])
    rows._REMEMBERED.clear()
    assert list(rows_of(filters)) == alone
    assert list(rows_of(filters)) == alone
    assert [row for flt in filters for row in rows_of([flt])] == alone


def test_what_filters_have_in_common_is_remembered_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither that of very many kinds of filters, nor long patterns of one."""
    remembered: dict[tuple[object, object], tuple[object, ...]] = {}
    monkeypatch.setattr(rows, "_REMEMBERED", remembered)
    monkeypatch.setattr(rows, "_MOST_REMEMBERED", 8)

    def blocked(first: int, ports: int) -> int:
        ranges = tuple(PortRange(port, port) for port in range(first, first + 2 * ports, 2))
        flt = Filter(Endpoint(Network(Family.IPV4, 1, 32)), Endpoint(Keyword.ME, ranges), 17)
        origin = Origin("dynamic", "", f"of {first}")
        return len(list(rows_of([InForce(origin, flt, Action.BLOCK)])))

    for first in range(1, 40):
        assert blocked(first, 1) == blocked(first, 1) == 1
        assert 0 < len(remembered) <= 8
    before = dict(remembered)
    assert blocked(1, 1000) == blocked(1, 1000) == 1000
    assert remembered == before
