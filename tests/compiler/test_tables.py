"""The normal form: what it is made of filters, and its bounds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.compiler import rows
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.stored import from_stored, to_stored
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Address, Family, Keyword, Network
from ipsecd.model.protected_filters import BY_SETTINGS
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


def test_what_protects_nothing_is_stored_as_it_always_was() -> None:
    """So an upgrade reads what an earlier version kept, and the other way round."""
    block = InForce(Origin("static", "P", "R"), parse_filter("*=0:1434:UDP"), Action.BLOCK)
    header = json.loads(to_stored(compile_filters([block])).partition(b"\n")[0])
    assert {len(table["id"]) for table in header["tables"]} == {3}


@pytest.mark.parametrize("protected", [[False], [1], [True, True], ["yes"], [None]])
def test_only_permits_are_stored_as_protected(protected: list[object]) -> None:
    """Nothing outranks such a table, so whatever else says that it is one is refused."""
    block = InForce(Origin("static", "P", "R"), parse_filter("*=0:1434:UDP"), Action.BLOCK)
    permit = InForce(BY_SETTINGS, parse_filter("*+0:22:TCP"), Action.PERMIT)
    classifier = compile_filters([block, permit])
    line, _, body = to_stored(classifier).partition(b"\n")
    assert from_stored(line + b"\n" + body) == classifier
    with pytest.raises(InvalidInput):
        from_stored(line.replace(b"true]", json.dumps(protected)[1:].encode()) + b"\n" + body)
    with pytest.raises(InvalidInput, match="no policy makes"):
        from_stored(line.replace(b'"block"]', b'"block",true]') + b"\n" + body)
