"""The chain of equalities over the loaded programs, run by the kernel on crafted bytes."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.expansion import with_lists_written_out
from ipsecd.backend.xdp.list_ranges import Edit
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import HasTableId
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import NO_LISTS, compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import BY_NAME
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import (
    IPV6_EXTENSION_HEADERS,
    Action,
    Endpoint,
    Filter,
    InForce,
    InterfaceType,
    Origin,
    PortRange,
    Store,
    filters_of,
)
from tests.equality import rows
from tests.equality.known import as_programs_know
from tests.frames import encode, frame
from tests.strategies import (
    HOST,
    ME,
    changing_lists,
    in_force,
    packets,
    packets_for,
    policies,
    ports_in_force,
    types_of_links,
)

SENT = st.lists(packets(), min_size=10, max_size=20)
PASSES = {"receive": 2, "arrive": 0xFFFFFFFF, "leave": 0xFFFFFFFF}
INGRESS_IFINDEX = 36
"""Offset of ``ingress_ifindex`` in ``struct __sk_buff`` (linux/bpf.h)."""


@dataclass(frozen=True, slots=True)
class HostOfPrograms(Host):
    """A host of which programs know the addresses, and not which packets its sockets send."""

    def sends(self, packet: Packet) -> bool:
        """What has an address of the host; of the rest nftables has judged what is sent."""
        return self.owns(packet.family, packet.source)


AS_PROGRAMS_SEE_IT = HostOfPrograms(HOST.addresses, HOST.broadcasts)


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("needs root")
        pytest.skip("needs root")
    loaded = Programs()
    loaded.set_host(HOST)
    yield loaded
    loaded.close()


def context(packet: Packet) -> bytes:
    fields = bytearray(192)
    if packet.point is Point.LEAVING:
        struct.pack_into("=I", fields, INGRESS_IFINDEX, 1)
    return bytes(fields)


def can_be_sent(packet: Packet) -> bool:
    """Whether bytes can say it: in IPv6 an extension header is no whole packet's protocol."""
    return (
        packet.family is Family.IPV4
        or packet.later_fragment
        or packet.protocol not in IPV6_EXTENSION_HEADERS
    )


def judge(programs: Programs, packet: Packet, number: int) -> set[Action]:
    """What every program that meets such a packet does with it."""
    actions = set()
    hooks = ("receive", "arrive") if packet.point is Point.ARRIVING else ("leave",)
    kind = packet.interface_type or InterfaceType.LAN
    for hook in hooks:
        for suffix, data in (("", frame(packet, number)), ("_bare", encode(packet, number))):
            descriptor = programs.program(f"{hook}_{kind.value}{suffix}")
            given_context = None if hook == "receive" else context(packet)
            value, _ = libbpf.run_program(descriptor, data, context=given_context)
            actions.add(Action.PERMIT if value == PASSES[hook] else Action.BLOCK)
    return actions


def compare_all(
    programs: Programs,
    filters: list[InForce],
    sent: list[Packet],
    exempt: tuple[str, ...],
    selected: Sequence[InForce] = (),
    known: Mapping[str, AddressList] = NO_LISTS,
) -> int:
    """Enforce `filters` and what is `selected`, and judge packets; how many were compared.

    `known` are the lists that static filters name.
    """
    host = replace(AS_PROGRAMS_SEE_IT, lists=known)
    exemptions = [BY_NAME[name] for name in exempt]
    volatile = Volatile()
    static = [flt for flt in filters if not flt.origin.volatile]
    own = compile_filters(static, exempt, lists=known)
    policy = with_lists_written_out(merged(own, compile_filters(selected)).with_lists(known))
    filters = [*filters, *selected]
    programs.apply(policy, volatile)
    dynamic = [flt for flt in filters if flt.origin.volatile]
    programs.change(volatile.change(add=rows_of(dynamic)), volatile)
    compared = 0
    tables: list[HasTableId] = [*policy.tables, *volatile.tables]
    try:
        for number, packet in enumerate(sent, 1):
            if packet.interface_type is None or not can_be_sent(packet):
                continue
            if packet.point is Point.LEAVING and needs_translation(tables, packet.family):
                continue
            as_known = as_programs_know(filters, packet)
            wanted = decide(*as_known, host, exemptions)
            assert judge(programs, packet, number) == {wanted.action}, (packet, wanted, filters)
            compared += 1
        assert not programs.drift()
        assert programs.digest() == policy.digest
    finally:
        programs.change(volatile.change(remove={flt.origin for flt in dynamic}), volatile)
    return compared


@pytest.mark.netns
@pytest.mark.timeout(900)
def test_the_programs_decide_as_the_oracle_does(programs: Programs) -> None:
    """What XDP and tc do with packets, Ethernet or bare, is what decide says."""
    compared = 0

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000")),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(in_force(), in_force(), ports_in_force()),
        st.lists(packets(), min_size=20, max_size=30),
        st.lists(st.sampled_from(sorted(BY_NAME)), max_size=3, unique=True),
    )
    def compare(filters: list[InForce], sent: list[Packet], exempt: list[str]) -> None:
        nonlocal compared
        compared += compare_all(programs, filters, sent, tuple(exempt))

    compare()
    assert compared > 1000


def note_edits(monkeypatch: pytest.MonkeyPatch) -> list[Edit]:
    """The edits that write something from now on."""
    edits: list[Edit] = []
    note = Edit.note

    def noted(self: Edit) -> None:
        if self.writes:
            edits.append(self)
        note(self)

    monkeypatch.setattr(Edit, "note", noted)
    return edits


@pytest.mark.netns
@pytest.mark.timeout(900)
def test_lists_decide_as_the_oracle_does(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where a policy names lists, beside dynamic rules, each time after other entries.

    Nobody looks into the lists while they are edited, as the programs are not attached here.
    """
    monkeypatch.setattr(programs, "edits_lists", True)
    monkeypatch.setattr("ipsecd.backend.xdp.programs.wait_for_packets", lambda: None)
    edits = note_edits(monkeypatch)
    compared = 0

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000")) // 3,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(in_force(listing=True), SENT, changing_lists())
    def compare(
        filters: list[InForce], sent: list[Packet], in_turn: tuple[dict[str, AddressList], ...]
    ) -> None:
        nonlocal compared
        judged = [f for f in filters if not (f.origin.volatile and lists_in(f.filter))]
        for known in in_turn:
            compared += compare_all(programs, judged, sent, (), known=known)

    compare()
    assert compared > 1000
    assert len(edits) > 20


@pytest.mark.netns
@pytest.mark.timeout(900)
def test_any_policy_decides_as_the_oracle_does(programs: Programs) -> None:
    """Any addresses, port ranges and lists of prefixes, judged one step in and out of each."""
    compared = 0

    @st.composite
    def cases(draw: st.DrawFn) -> tuple[list[InForce], list[Packet]]:
        policy = draw(policies())
        filters = list(filters_of(policy, Store.STATIC))
        sent = draw(st.lists(packets_for(policy), min_size=10, max_size=20))
        return filters, sent

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000")) // 2,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def compare(case: tuple[list[InForce], list[Packet]]) -> None:
        nonlocal compared
        compared += compare_all(programs, *case, ())

    compare()
    assert compared > 500


@pytest.mark.netns
@pytest.mark.timeout(900)
def test_what_changes_beside_tables_that_stay_decides_as_the_oracle_does(
    programs: Programs,
) -> None:
    """Policies one after another that share filters, with hosts in tables of their own."""
    compared = 0

    @st.composite
    def cases(draw: st.DrawFn) -> tuple[list[InForce], list[list[InForce]], list[Packet]]:
        if draw(st.booleans()):
            return draw(in_force()), draw(st.lists(in_force(3), max_size=3)), draw(SENT)
        policy = draw(policies())
        filters = list(filters_of(policy, Store.STATIC))
        some = st.lists(st.sampled_from(filters), max_size=4) if filters else st.just([])
        sent = draw(st.lists(packets_for(policy), min_size=10, max_size=20))
        return filters[::2], draw(st.lists(some, max_size=3)), sent

    @seed(1434)
    @settings(
        max_examples=int(os.environ.get("IPSECD_EXAMPLES", "1000")) // 3,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def compare(case: tuple[list[InForce], list[list[InForce]], list[Packet]]) -> None:
        nonlocal compared
        filters, changes, sent = case
        for more in ([], *changes):
            selected = [flt for flt in more if not flt.origin.volatile]
            compared += compare_all(programs, filters, sent, (), selected)

    compare()
    assert compared > 500


@pytest.mark.netns
def test_a_wrong_rank_is_seen(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps in the wrong order break the chain of equalities."""

    @seed(1434)
    @settings(
        max_examples=1500,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(in_force(asked=types_of_links()), st.lists(packets(), min_size=20, max_size=30))
    def compare(filters: list[InForce], sent: list[Packet]) -> None:
        compare_all(programs, filters, sent, ())

    def wrong(table: TableId, _point: Point | None) -> tuple[object, ...]:
        return (table.rank[0], *(-part for part in table.rank[1:]), repr(table))

    monkeypatch.setattr(TableId, "order_at", wrong)
    with pytest.raises(AssertionError):
        compare()


def wrong_verdicts(programs: Programs) -> list[tuple[tuple[str, ...], Packet]]:
    """The policies and packets of the cases that are written out in which programs are wrong."""
    wrong = []
    for number, (policy, packet, wanted) in enumerate(rows.CASES, 1):
        programs.apply(compile_filters(rows.in_force(policy)), Volatile())
        if judge(programs, packet, number) != {wanted}:
            wrong.append((policy, packet))
    return wrong


@pytest.mark.netns
def test_every_field_is_looked_at_where_it_lies(programs: Programs) -> None:
    """Verdicts that are written out by hand, which a wrong row of the fields would change."""
    assert not wrong_verdicts(programs)


@pytest.mark.netns
@pytest.mark.parametrize("name", [name for name in rows.BROKEN if name not in rows.IN_PACKETS])
def test_a_wrong_row_is_seen(programs: Programs, name: str) -> None:
    """A field in the wrong place, too short, or of the wrong rank changes a verdict."""
    with rows.broken(name):
        assert wrong_verdicts(programs)


LIST_LENGTHS = {Family.IPV4: range(9, 33), Family.IPV6: range(20, 129)}


@pytest.mark.netns
@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("rules", [1, 3])
def test_long_lists_of_prefixes_decide_as_the_oracle_does(
    programs: Programs, family: Family, rules: int
) -> None:
    """A list of thousands of prefixes of all lengths, with a permit inside, is one look-up."""
    luck = random.Random(family.value * 10 + rules)
    near = (0x0A << 24) if family is Family.IPV4 else (0x2001 << 112)
    networks = set()
    for _ in range(3000):
        length = luck.choice(LIST_LENGTHS[family])
        address = near | luck.getrandbits(family.bits - 9)
        dropped = family.bits - length
        networks.add(Network(family, address >> dropped << dropped, length))
    filters = [
        InForce(
            Origin("static", "P", f"r{number % rules}"),
            Filter(Endpoint(network), Endpoint(Keyword.ME), 17 if rules == 3 else None),
            Action.BLOCK,
        )
        for number, network in enumerate(sorted(networks, key=lambda n: (n.address, n.length)))
    ]
    hole = Network(family, min(network.address for network in networks), family.bits)
    filters.append(
        InForce(
            Origin("static", "P", "hole"),
            Filter(Endpoint(hole), Endpoint(Keyword.ME), 17),
            Action.PERMIT,
        )
    )
    sent = [
        Packet(Point.ARRIVING, family, address, ME[family], 17, 53, 53)
        for network in luck.sample(sorted(networks, key=lambda n: n.address), 150)
        for address in (
            network.address - 1,
            network.address,
            network.address + (1 << (family.bits - network.length)) - 1,
            min(network.address + (1 << (family.bits - network.length)), (1 << family.bits) - 1),
        )
    ]
    sent.append(Packet(Point.ARRIVING, family, hole.address, ME[family], 17, 53, 53))
    policy = compile_filters(filters)
    programs.apply(policy, Volatile())
    actions = set()
    for number, packet in enumerate(sent, 1):
        wanted = policy.lookup(packet, AS_PROGRAMS_SEE_IT).action
        actions.add(wanted)
        assert judge(programs, packet, number) == {wanted}, packet
    assert len(actions) == 2


@pytest.mark.netns
def test_too_many_steps_are_refused_and_change_nothing(programs: Programs) -> None:
    """A policy that needs more look-ups than the kernel allows is refused by name."""
    filters = [
        InForce(
            Origin("static", "P", "r"),
            Filter(Endpoint(), Endpoint(Keyword.ME, (PortRange(first, first + width),)), 17),
            Action.BLOCK,
        )
        for first in range(1, 60000, 900)
        for width in range(1, 70)
    ]
    before = programs.digest()
    with pytest.raises(LimitExceeded, match="look-ups"):
        programs.apply(compile_filters(filters), Volatile())
    assert programs.digest() == before
    assert not programs.drift()
