"""The chain of equalities over a real kernel: packets on a wire, and what a backend lets pass."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.base import Backend
from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.host.interfaces import read_host
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Process
from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import ALWAYS, Action, InForce, Origin
from tests.counts import counts_of
from tests.equality import entries, judging, rows
from tests.equality.wire import (
    KEPT,
    POINTS,
    Wire,
    comes,
    forget,
    make,
    raw_sockets,
)
from tests.equality.wire import wire as a_wire
from tests.netns.site import make_group, own_name
from tests.strategies import (
    changing_lists,
    conditions_of_links,
    in_force,
    lists_in_force,
    packets,
    senders_in_force,
)
from tests.strategies import (
    filters as one_filters,
)

NAMES = tuple(exemption.name for exemption in ESSENTIALS)
OWN = own_name("ipsecd-test")
SERVICE, OUTER, INNER = SENDERS = (
    Process("service", f"{OWN}.service"),
    Process("cgroup", f"/{OWN}"),
    Process("cgroup", f"/{OWN}/inner"),
)
GROUPS = {
    f"system.slice/{OWN}.service": frozenset({SERVICE}),
    OWN: frozenset({OUTER}),
    f"{OWN}/inner": frozenset({OUTER, INNER}),
}
"""Control groups, and who a packet that is sent from there comes from."""


@pytest.fixture
def wire() -> Iterator[Wire]:
    with a_wire() as link:
        yield link


@pytest.fixture
def senders(wire: Wire) -> Iterator[None]:
    """Control groups, and sockets that were made in each of them."""
    top = cgroups.root()
    assert top is not None
    (line,) = (
        line for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
    )
    home = top / line[3:].lstrip("/")
    pid = str(os.getpid())
    for name, processes in GROUPS.items():
        make_group(top / name)
        (top / name / "cgroup.procs").write_text(pid)
        try:
            wire.raw[processes] = raw_sockets()
        finally:
            (home / "cgroup.procs").write_text(pid)
    yield
    for name, processes in reversed(GROUPS.items()):
        for sock in wire.raw.pop(processes):
            sock.close()
        (top / name).rmdir()


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_decides_as_the_oracle_does(wire: Wire, name: str) -> None:
    """What a backend drops and lets pass, of real packets, is what decide says."""
    compare(wire, name, POINTS)


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("senders")
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_knows_senders_as_the_oracle_does(wire: Wire, name: str) -> None:
    """The same where filters name services and control groups, and packets come from there."""
    compare(wire, name, (Point.SENDING,), SENDERS, share=5)


@pytest.mark.netns
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["nftables", "xdp"])
def test_the_kernel_knows_lists_as_the_oracle_does(wire: Wire, name: str) -> None:
    """The same where filters name lists whose entries overlap, which had others just before."""
    compare(wire, name, POINTS, share=3 if name == "nftables" else 5, listing=True)


@pytest.mark.netns
@pytest.mark.timeout(600)
def test_the_kernel_drops_at_once_what_the_oracle_blocks(wire: Wire) -> None:
    """Of one block alone there is one table of an IP version, which the first rules decide by."""
    origin = Origin("static", "P", "r")
    blocks = st.builds(
        lambda flt, asked: [InForce(origin, flt, Action.BLOCK, asked)],
        one_filters(),
        st.just(ALWAYS) | conditions_of_links(),
    )
    compare(wire, "nftables", (Point.ARRIVING,), share=5, policies=blocks)


def wrong_verdicts(wire: Wire) -> list[tuple[tuple[str, ...], Packet]]:
    """The policies and packets of the cases that are written out in which nftables is wrong."""
    backend = NftablesBackend()
    wrong = []
    try:
        for number, (policy, packet, wanted) in enumerate(rows.CASES, 1):
            backend.apply(compile_filters(rows.in_force(policy)), Volatile())
            assert wire.send(packet, number)
            if comes("in", packet, number) != (wanted.value == "permit"):
                wrong.append((policy, packet))
    finally:
        backend.remove()
        backend.close()
    return wrong


@pytest.mark.netns
def test_the_kernel_finds_the_range_of_a_port_among_many(wire: Wire) -> None:
    """Ranges that lie apart, in each other and across each other, blocked and permitted."""
    texts = [f"*=0:{first}-{first + 7}:UDP" for first in range(1000, 1600, 10)]
    texts += [f"*=0:{first}-{first + 40}:UDP" for first in range(1013, 1500, 97)]
    texts += ["*=0:1200-1299:UDP", "*=0:65000-65535:UDP", "*=0:1-3:UDP"]
    actions = cycle((Action.BLOCK, Action.BLOCK, Action.PERMIT))
    filters = [
        InForce(Origin("static", "P", text), parse_filter(text), action)
        for text, action in zip(texts, actions, strict=False)
    ]
    ports = [port for first in range(1000, 1610, 10) for port in (first - 1, first, first + 7)]
    ports += [0, 3, 4, 999, 1199, 1299, 1300, 64999, 65000, 65535]
    assert_as_decided(wire, filters, [p for port in ports for p in arriving(17, 5, port)])


@pytest.mark.netns
@pytest.mark.parametrize(
    "text", ["*=0::17", "*=0:68:UDP", "*=0:1434:UDP", "*=0::1", "*=0::58", "[fd09::2]=*"]
)
def test_what_is_exempt_is_not_dropped_at_once(wire: Wire, text: str) -> None:
    """Nor is what only begins like it let pass, and a later fragment has no ports.

    Its payload begins with what would be port 1434, and old kernels read it.
    """
    filters = [InForce(Origin("static", "P", "r"), parse_filter(text), Action.BLOCK)]
    like_solicitation = 135 << 8 | 255
    found = arriving(17, 67, 68) + arriving(17, 547, 546) + arriving(17, like_solicitation, 68)
    for number, codes in ((1, ((3, 4), (3, 1), (8, 0))), (58, ((135, 0), (2, 0), (128, 0)))):
        for kind, code in codes:
            found += [
                replace(packet, icmp_type=kind, icmp_code=code, hop_limit=hop_limit)
                for packet in arriving(number)
                for hop_limit in (255, 64)
                if packet.family is (Family.IPV4 if number == 1 else Family.IPV6)
            ]
    found += [replace(packet, later_fragment=True) for packet in arriving(17)]
    assert_as_decided(wire, filters, found)


@pytest.mark.netns
@pytest.mark.parametrize("store", ["static", "dynamic"])
def test_a_permit_alone_counts_no_later_fragment(wire: Wire, store: str) -> None:
    """Its payload begins with the bytes of what would be the type that is permitted."""
    permit = InForce(
        Origin(store, "", "r"), parse_filter("10.9.0.0/16=0::ICMP/echo-reply"), Action.PERMIT
    )
    whole = arriving(1)[0]
    backend, volatile = NftablesBackend(), Volatile()
    try:
        if store == "dynamic":
            volatile.change(add=rows_of([permit]))
        backend.apply(compile_filters([permit] if store == "static" else [], NAMES), volatile)
        for packet, counts in (
            (replace(whole, later_fragment=True), 0),
            (replace(whole, icmp_type=0), 1),
        ):
            before = credited(backend, volatile)
            assert wire.send(packet, 1)
            wire.wait()
            assert (credited(backend, volatile) - before).total() == counts
    finally:
        backend.remove()
        backend.close()


def arriving(protocol: int, source: int | None = None, port: int | None = None) -> list[Packet]:
    """Packets of both IP versions for this host, from a neighbour."""
    ends = {Family.IPV4: ("10.9.0.2", "10.9.0.1"), Family.IPV6: ("fd09::2", "fd09::1")}
    found = []
    for family in Family:
        there, here = (int(ip_address(end)) for end in ends[family])
        packet = Packet(Point.ARRIVING, family, there, here, protocol, source, port)
        found.append(replace(packet, interface="wire"))
    return found


def assert_as_decided(
    wire: Wire, filters: Sequence[InForce], arriving_packets: Sequence[Packet]
) -> None:
    """Nftables drops, lets pass and counts these packets as decide has it."""
    backend, host = NftablesBackend(), read_host().host
    try:
        backend.apply(compile_filters(filters, NAMES), Volatile())
        sent = dict(enumerate(arriving_packets, 1))
        assert all(wire.send(packet, number) for number, packet in sent.items())
        wire.wait()
        # Whether a later fragment was dropped or waits for others is seen by the counters.
        whole = sum(not packet.later_fragment for packet in sent.values())
        assert judging.compared(sent, filters, host) >= whole
        wanted = credits_of(decide(filters, packet, host, ESSENTIALS) for packet in sent.values())
        assert credited(backend, Volatile()) == wanted
    finally:
        backend.remove()
        backend.close()


@pytest.mark.netns
def test_every_field_is_looked_at_where_it_lies(wire: Wire) -> None:
    """Verdicts that are written out by hand, which a wrong row of the fields would change."""
    assert not wrong_verdicts(wire)


@pytest.mark.netns
@pytest.mark.parametrize("name", [name for name in rows.BROKEN if name not in rows.IN_PROGRAMS])
def test_a_wrong_row_is_seen(wire: Wire, name: str) -> None:
    """A field at the wrong offset, too short, or of the wrong rank changes a verdict."""
    with rows.broken(name):
        assert wrong_verdicts(wire)


def credited(backend: Backend, volatile: Volatile) -> Counter[Origin]:
    """How many packets a backend has counted for each rule, dynamic ones too."""
    packets = Counter({origin: count.packets for origin, count in counts_of(backend).items()})
    tables = {table.id: table for table in volatile.tables}
    for (table, key), count in backend.volatile_counts().items():
        packets[tables[table].find(key) or Origin("", "", "")] += count.packets
    return +packets


def credits_of(decisions: Iterable[Decision]) -> Counter[Origin]:
    """What rules are to count: the audit of each packet, and the rule that decides about it."""
    told = ((decision.by, decision.audited) for decision in decisions)
    return Counter(each.origin for pair in told for each in pair if each)


def of_actions(counted: Counter[Origin], actions: Mapping[Origin, Action]) -> Counter[Action]:
    """How many packets are counted for all rules of one action."""
    together: Counter[Action] = Counter()
    for origin, number in counted.items():
        together[actions[origin]] += number
    return together


def compare(
    wire: Wire,
    name: str,
    points: tuple[Point, ...],
    senders: tuple[Process, ...] = (),
    share: int = 1,
    *,
    listing: bool = False,
    policies: st.SearchStrategy[list[InForce]] | None = None,
) -> None:
    """Compare a backend with the oracle over so many generated policies, and that by `share`.

    They are drawn from `policies`, if these are given.
    """
    own = read_host().host
    backend = make(name)
    compared, first = 0, 1
    # What entries counted that programs could drop by themselves, or count for an audit.
    left_by_programs = 0
    by_links = conditions_of_links()
    by_lists = in_force(asked=by_links, listing=True)
    if name != "nftables":
        by_lists |= lists_in_force(by_links)
    if policies is None:
        policies = by_lists if listing else in_force(asked=by_links)
    # In turn, and not drawn: so there are no fewer different filters.
    counting = cycle((("a", "b"), ("a",), ()))

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000"))
        // (1 if name == "nftables" else 3)
        // share,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        senders_in_force(senders, by_links) if senders else policies,
        st.lists(
            st.tuples(packets(points), st.sampled_from(list(wire.raw))), min_size=20, max_size=30
        ),
        changing_lists() if listing else st.just(({},)),
    )
    def compare_one(
        filters: list[InForce],
        drawn: list[tuple[Packet, frozenset[Process]]],
        lists_in_turn: Sequence[dict[str, AddressList]],
    ) -> None:
        nonlocal compared, first, left_by_programs
        lists_in_turn = entries.counting(lists_in_turn, next(counting))
        host = replace(own, lists=lists_in_turn[-1])
        sent = [
            replace(packet, processes=processes, interface="wire") for packet, processes in drawn
        ]
        volatile = Volatile()
        policy = [flt for flt in filters if not flt.origin.volatile]
        if name == "nftables":
            backend.remove()
        dynamic = [flt for flt in filters if flt.origin.volatile]
        for of_now in lists_in_turn:
            following = Volatile()
            following.change(add=rows_of(with_lengths(dynamic, of_now)))
            policy_of_now = compile_filters(policy, NAMES, lists=of_now)
            backend.apply(policy_of_now.with_lists(of_now, following.tables), volatile)
            delta = volatile.difference(following)
            if delta:
                backend.change(delta, following)
            volatile = following
        before, entries_before = credited(backend, volatile), entries.counted_by(backend)
        if first > KEPT:
            forget()
            first = 1
        numbers = {n: packet for n, packet in enumerate(sent, first) if wire.send(packet, n)}
        wire.wait()
        first += len(sent)
        compared += judging.compared(numbers, filters, host)
        judged = [(p, decide(filters, p, host, ESSENTIALS)) for p in numbers.values()]
        # Fragments wait for each other where connection tracking puts datagrams together.
        least = credits_of(d for p, d in judged if not p.later_fragment)
        most = credits_of(d for _, d in judged)
        counted = credited(backend, volatile) - before
        if name != "nftables":
            # Programs look up prefixes of several blocks, or audits, in one step.
            actions = {flt.origin: flt.action for flt in filters}
            few, some, many = (of_actions(each, actions) for each in (least, counted, most))
            assert few <= some <= many, (judged, filters, counted)
        else:
            assert least <= counted <= most, (judged, filters, counted)
        few_of_entries = entries.to_count([(p, d) for p, d in judged if not p.later_fragment], host)
        of_entries = entries.counted_by(backend) - entries_before
        assert few_of_entries <= of_entries <= entries.to_count(judged, host), (judged, filters)
        of_policy = (by for _, d in judged for by in (d.by, d.audited) if by in policy)
        if any(by.action is not Action.PERMIT for by in of_policy):
            left_by_programs += of_entries.total()
        gone = volatile.change(remove={flt.origin for flt in dynamic})
        if gone.removed:
            backend.change(gone, volatile)

    try:
        compare_one()
    finally:
        backend.remove()
        backend.close()
    assert compared > 1000 // share
    # Else it would not be seen if programs kept such packets to themselves.
    assert left_by_programs > 100 // share or not listing or name == "nftables"
