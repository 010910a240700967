"""The chain of equalities over connections: packets to and fro, judged one after the other.

The oracle is ``decide``, and a model of what connection tracking knows. On the other side are real
packets, the kernel's own connection tracking, and each backend.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.nftables import expressions, look_ups
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.host.interfaces import read_host
from ipsecd.model.addresses import Address, Family, Keyword, Network
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    ICMP,
    UDP,
    Action,
    Conditions,
    Endpoint,
    Filter,
    InForce,
    Origin,
    PortRange,
)
from tests.equality.wire import Wire, comes, forget, make, wire, witnessed
from tests.frames import encode

pytestmark = pytest.mark.netns

NAMES = tuple(exemption.name for exemption in ESSENTIALS)
HERE = {Family.IPV4: 0x0A090001, Family.IPV6: 0xFD09 << 112 | 1}
PEER = {Family.IPV4: 0x0A090002, Family.IPV6: 0xFD09 << 112 | 2}
PORTS = 2
"""How many ports there are on either side of the connections of one case."""
FIRST_PORTS = itertools.count(1000, PORTS)
"""The first port of each case. No two cases of a run have the same, also of different tests: the
kernel knows a connection for minutes after its last packet."""
ECHO_REQUEST = {Family.IPV4: 8, Family.IPV6: 128}
ECHO_REPLY = {Family.IPV4: 0, Family.IPV6: 129}


class Kind(Enum):
    """What a connection is made of."""

    DATAGRAMS = "datagrams"
    PING = "ping"


class Step(NamedTuple):
    """One packet: by the host or the peer, of the connection between two ports."""

    kind: Kind
    family: Family
    outward: bool
    here: int
    there: int
    is_reply: bool


class Flow(NamedTuple):
    """A connection as connection tracking tells it from others, whoever began it."""

    kind: Kind
    family: Family
    here: int
    there: int


@dataclass
class Tracked:
    """A connection that is known: who began it, and whether it was answered."""

    outward: bool
    answered: bool = False


@dataclass
class Tracking:
    """What connection tracking knows, if it is on.

    A connection is known once its first packet has passed every hook. It is established when a
    packet came the other way, even one that was dropped behind connection tracking.
    """

    flows: dict[Flow, Tracked] = field(default_factory=dict)

    def is_opening(self, step: Step) -> bool:
        """Whether the packet belongs to no connection; takes note of it."""
        known = self.flows.get(_flow(step))
        if known is None:
            return True
        if step.outward != known.outward:
            known.answered = True
        return not known.answered

    def passed(self, step: Step) -> None:
        """Take note of a packet that has passed."""
        # The answer to a ping that nobody has sent begins nothing.
        if not (step.kind is Kind.PING and step.is_reply):
            self.flows.setdefault(_flow(step), Tracked(step.outward))


def _flow(step: Step) -> Flow:
    if step.kind is Kind.PING:
        # An echo has one number for both sides, and requests of both sides are two connections.
        asked_outward = step.outward != step.is_reply
        return Flow(step.kind, step.family, step.here, int(asked_outward))
    return Flow(step.kind, step.family, step.here, step.there)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    kind = draw(st.sampled_from([Kind.DATAGRAMS, Kind.DATAGRAMS, Kind.PING]))
    number = st.integers(0, PORTS - 1)
    return Step(
        kind,
        draw(st.sampled_from(Family)),
        draw(st.booleans()),
        draw(number),
        draw(number),
        kind is Kind.PING and draw(st.booleans()),
    )


@st.composite
def rules(draw: st.DrawFn) -> InForce:
    """A rule that many of the packets match; its ports are numbers from 0 on."""
    number = draw(st.integers(0, 9999))
    dynamic = draw(st.booleans())
    origin = Origin("dynamic" if dynamic else "static", "" if dynamic else "P", f"r{number}")
    peers: list[Address] = [
        Keyword.ANY,
        Keyword.ANY,
        *(Network(family, PEER[family], family.bits) for family in Family),
    ]
    here: list[Address] = [Keyword.ME, Keyword.ME, Keyword.ANY]
    protocol = draw(st.sampled_from([None, None, None, UDP, UDP, ICMP]))
    ports = st.sampled_from([(), (), (PortRange(1, 1),), (PortRange(1, 2),)])
    with_ports = protocol != ICMP
    peer = Endpoint(draw(st.sampled_from(peers)), draw(ports) if with_ports else ())
    own = Endpoint(draw(st.sampled_from(here)), draw(ports) if with_ports else ())
    source, destination = (peer, own) if draw(st.booleans()) else (own, peer)
    flt = Filter(source, destination, protocol, mirrored=draw(st.booleans()))
    opening = Conditions(opening=draw(st.sampled_from([False, True, True])))
    return InForce(origin, flt, draw(st.sampled_from(Action)), opening)


def at_ports(rule: InForce, first: int) -> InForce:
    """The rule with real ports in the place of numbers."""

    def moved(end: Endpoint) -> Endpoint:
        ports = tuple(PortRange(p.first + first, p.last + first) for p in end.ports)
        return replace(end, ports=ports)

    flt = rule.filter
    return replace(
        rule, filter=replace(flt, source=moved(flt.source), destination=moved(flt.destination))
    )


def packet_of(step: Step, first: int) -> Packet:
    """The packet of a step, as this host sees it."""
    here, there = HERE[step.family], PEER[step.family]
    ports = (step.here + first, step.there + first)
    if not step.outward:
        here, there, ports = there, here, ports[::-1]
    point = Point.SENDING if step.outward else Point.ARRIVING
    if step.kind is Kind.DATAGRAMS:
        return Packet(point, step.family, here, there, UDP, *ports, interface="wire")
    types = ECHO_REPLY if step.is_reply else ECHO_REQUEST
    return Packet(
        point,
        step.family,
        here,
        there,
        ICMP.number(step.family),
        icmp_type=types[step.family],
        interface="wire",
    )


def whole(packet: Packet, number: int, identifier: int) -> bytes:
    """The packet with a right checksum, without which it would be no part of a connection.

    `identifier` is that of a ping (RFC 792).
    """
    data = bytearray(encode(packet, number))
    start = 20 if packet.family is Family.IPV4 else 40
    is_ping = packet.icmp_type is not None
    field = start + (2 if is_ping else 6)
    if is_ping:
        data[start + 4 : start + 6] = identifier.to_bytes(2, "big")
    data[field : field + 2] = bytes(2)
    summed = bytes(data[start:])
    if packet.family is Family.IPV6 or not is_ping:
        size = packet.family.bits // 8
        ends = packet.source.to_bytes(size, "big") + packet.destination.to_bytes(size, "big")
        summed += ends + len(data[start:]).to_bytes(4, "big") + packet.protocol.to_bytes(4, "big")
    total = sum(struct.unpack(f">{len(summed) // 2}H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    data[field : field + 2] = (~total & 0xFFFF or 0xFFFF).to_bytes(2, "big")
    return bytes(data)


@pytest.fixture
def link() -> Iterator[Wire]:
    with wire() as made:
        yield made


def compare(link: Wire, name: str, examples: int) -> int:
    """Compare a backend with the oracle; how many packets were judged differently by their past."""
    host = read_host().host
    backend = make(name)
    first_number, mattered = 1, 0

    @seed(22)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(rules(), min_size=1, max_size=6, unique_by=lambda rule: rule.origin.rule),
        st.lists(steps(), min_size=8, max_size=16),
    )
    def compare_one(drawn: list[InForce], sequence: list[Step]) -> None:
        nonlocal first_number, mattered
        first_port = next(FIRST_PORTS)
        filters = [at_ports(rule, first_port) for rule in drawn]
        volatile = Volatile()
        backend.apply(
            compile_filters([flt for flt in filters if not flt.origin.volatile], NAMES), volatile
        )
        dynamic = [flt for flt in filters if flt.origin.volatile]
        if (delta := volatile.change(add=rows_of(dynamic))).added:
            backend.change(delta, volatile)
        tracking = Tracking()
        for step in sequence:
            mattered += compare_step(link, filters, step, tracking, host, first_port, first_number)
            first_number += 1
        if first_number > 1000:
            forget()
            first_number = 1
        if (delta := volatile.change(remove={flt.origin for flt in dynamic})).removed:
            backend.change(delta, volatile)

    try:
        compare_one()
    finally:
        backend.remove()
        backend.close()
    return mattered


def compare_step(
    link: Wire,
    filters: list[InForce],
    step: Step,
    tracking: Tracking,
    host: Host,
    first_port: int,
    number: int,
) -> bool:
    """Send the packet of a step; whether its past made a difference to what became of it."""
    packet = replace(packet_of(step, first_port), opening=tracking.is_opening(step))
    wanted = decide(filters, packet, host, ESSENTIALS).action
    permitted = wanted is Action.PERMIT
    assert link.send(packet, number, whole(packet, number, first_port + step.here))
    way = "in" if packet.point is Point.ARRIVING else "out"
    passed = (f"{way}{packet.family.value}", number) in witnessed()
    if permitted and not passed:
        passed = comes(way, packet, number)
    assert passed == permitted, (packet, wanted, filters)
    if passed:
        tracking.passed(step)
    other = decide(filters, replace(packet, opening=not packet.opening), host, ESSENTIALS).action
    return other is not wanted


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "examples"), [("nftables", 120), ("xdp", 40)])
def test_the_kernel_knows_connections_as_the_model_does(
    link: Wire, name: str, examples: int
) -> None:
    """What a backend does with every packet of several connections is what the oracle says."""
    examples = int(os.environ.get("IPSECD_EXAMPLES", examples))
    assert compare(link, name, examples) > examples // 4


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (look_ups, "opening", lambda _: b""),
        (expressions, "CT_STATE_OF_CONNECTION", 1 << 1 | 1 << 2 | 1 << 3),
        (look_ups, "only_opening_from", lambda _: 0),
    ],
    ids=["all-packets-open", "new-ones-pass", "all-tables-are-for-opening"],
)
def test_a_wrong_step_is_seen(
    link: Wire, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, wrong: object
) -> None:
    """Rules that took packets for what they are not would be found out."""
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(AssertionError):
        compare(link, "nftables", 100)
