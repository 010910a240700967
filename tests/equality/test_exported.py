"""What is exported for nft decides as the filters do: loaded with nft, and packets on a wire."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecctl.exporting.nft_ruleset import TABLE, ruleset
from ipsecd.host.interfaces import read_host
from ipsecd.model.exemptions import ESSENTIALS, Exemption
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Packet
from ipsecd.model.values import InForce, Origin
from tests.equality import judging, rows
from tests.equality import test_connections as connections
from tests.equality.wire import KEPT, POINTS, Wire, comes, forget, run
from tests.equality.wire import wire as a_wire
from tests.strategies import conditions_of_links, in_force, lists, packets


@pytest.fixture
def wire() -> Iterator[Wire]:
    with a_wire() as link:
        yield link


def load(
    filters: list[InForce],
    of_now: dict[str, AddressList],
    exemptions: tuple[Exemption, ...] = ESSENTIALS,
) -> str:
    text = ruleset(filters, exemptions, of_now, drop_unparsable=True)
    done = subprocess.run(
        ["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return text


def of_action(one: InForce) -> Origin:
    """The origin of a filter, as if all filters of its store that have its action were one rule."""
    return replace(one.origin, rule=one.action.value)


@pytest.mark.netns
@pytest.mark.timeout(600)
def test_the_kernel_decides_by_an_export_as_the_oracle_does(wire: Wire) -> None:
    """What the table drops and lets pass, of real packets, is what decide says."""
    own = read_host().host
    compared, first = 0, 1

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000")) // 8,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        in_force(asked=conditions_of_links(), listing=True),
        st.lists(packets(POINTS), min_size=20, max_size=30),
        lists(),
    )
    def compare_one(
        filters: list[InForce], drawn: list[Packet], of_now: dict[str, AddressList]
    ) -> None:
        nonlocal compared, first
        host = replace(own, lists=of_now)
        # Only what one rule has is put together in one line.
        filters = [replace(one, origin=of_action(one)) for one in filters]
        text = load(filters, of_now)
        if first > KEPT:
            forget()
            first = 1
        sent = [replace(packet, interface="wire") for packet in drawn]
        numbers = {n: packet for n, packet in enumerate(sent, first) if wire.send(packet, n)}
        first += len(sent)
        compared += judging.compared(numbers, filters, host, text)

    try:
        compare_one()
    finally:
        run("nft", "delete", "table", "inet", TABLE)
    assert compared > 1000


@pytest.mark.netns
def test_every_field_is_written_down(wire: Wire) -> None:
    """Verdicts that are written out by hand are those of the table."""
    wrong = []
    for number, (policy, packet, wanted) in enumerate(rows.CASES, 1):
        load(rows.in_force(policy), {}, ())
        assert wire.send(packet, number)
        if comes("in", packet, number) != (wanted.value == "permit"):
            wrong.append((policy, packet))
    run("nft", "delete", "table", "inet", TABLE)
    assert not wrong


@pytest.mark.netns
@pytest.mark.timeout(600)
def test_an_export_knows_connections(wire: Wire) -> None:
    """What it does with every packet of several connections is what decide says."""
    host = read_host().host
    number, mattered = 1, 0

    @seed(22)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "40")),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(connections.rules(), min_size=1, max_size=6),
        st.lists(connections.steps(), min_size=8, max_size=16),
    )
    def compare_one(drawn: list[InForce], sequence: list[connections.Step]) -> None:
        nonlocal number, mattered
        port = next(connections.FIRST_PORTS)
        filters = [connections.at_ports(rule, port) for rule in drawn]
        load(filters, {})
        tracking = connections.Tracking()
        for step in sequence:
            mattered += connections.compare_step(wire, filters, step, tracking, host, port, number)
            number += 1
        if number > KEPT:
            forget()
            number = 1

    try:
        compare_one()
    finally:
        run("nft", "delete", "table", "inet", TABLE)
    assert mattered > 10
