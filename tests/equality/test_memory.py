"""The chain of equalities without a kernel: decide, classifier, memory backend, stored image."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import inf

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.memory import MemoryBackend
from ipsecd.backend.xdp.expansion import with_lists_written_out
from ipsecd.backend.xdp.list_looks import is_in_ranges
from ipsecd.compiler import tables
from ipsecd.compiler.classifier import Verdict
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.shapes import SHAPES
from ipsecd.compiler.stored import from_stored, to_stored
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, ListName, Process
from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.fields import Kind, Listed
from ipsecd.model.list_names import lists_in, with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Packet, Point
from ipsecd.model.united import joined
from ipsecd.model.values import Action, InForce, Origin, Store
from tests.counts import counts_of
from tests.equality import entries
from tests.strategies import HOST, conditions, in_force, lists, packets, senders_in_force

NAMES = tuple(exemption.name for exemption in ESSENTIALS)


@settings(max_examples=1500, deadline=None)
@given(in_force(), st.lists(packets(), min_size=1, max_size=12))
def test_all_compiled_forms_decide_as_the_oracle_does(
    filters: list[InForce], sent: list[Packet]
) -> None:
    """decide, the classifier, its image and the memory backend agree about every packet."""
    all_agree(filters, sent, {})


@settings(max_examples=1500, deadline=None)
@given(in_force(listing=True), st.lists(packets(), min_size=1, max_size=12), lists())
def test_filters_that_name_lists_decide_as_the_oracle_does(
    filters: list[InForce], sent: list[Packet], known: dict[str, AddressList]
) -> None:
    """The same with lists whose entries overlap, and with some that do not exist."""
    all_agree(filters, sent, known)


@settings(max_examples=800, deadline=None)
@given(in_force(listing=True), st.lists(packets(), min_size=1, max_size=12), lists())
def test_lists_that_a_rule_names_alike_decide_as_the_oracle_does(
    filters: list[InForce], sent: list[Packet], known: dict[str, AddressList]
) -> None:
    """The same where the lists that filters of one rule name are put together."""
    alike = [
        replace(flt, origin=Origin.of(Store.STATIC, "P", flt.action.value, flt.action))
        for flt in filters
    ]
    named = [of_list(flt, name) for flt in alike if lists_in(flt.filter) for name in (*known, "no")]
    all_agree([*alike, *named], sent, known, joined([*alike, *named]))


def of_list(in_force: InForce, name: str) -> InForce:
    """The filter, with this list in the place of each that it names."""
    rule_filter = in_force.filter
    for side in ("source", "destination"):
        end = getattr(rule_filter, side)
        if isinstance(end.address, ListName):
            rule_filter = replace(rule_filter, **{side: replace(end, address=ListName(name))})
    return replace(in_force, filter=rule_filter)


def all_agree(
    filters: list[InForce],
    sent: list[Packet],
    known: Mapping[str, AddressList],
    compiled: list[InForce] | None = None,
) -> None:
    """Whatever is made of the filters, on a host with these lists, decides as the oracle does.

    It is made of those that are to be `compiled`, if they are not the same.
    """
    (known,) = entries.counting([known], ("a",))
    host = replace(HOST, lists=known)
    compiled = filters if compiled is None else compiled
    everything = compile_filters(compiled, NAMES, lists=known)
    stored = from_stored(to_stored(everything)).with_lists(known)
    assert stored.digest == everything.digest
    written_out = with_lists_written_out(everything)
    assert written_out.digest == everything.digest
    assert all(is_in_ranges(table) for table in written_out.tables if table.id.listed)
    backend = MemoryBackend(clock=lambda: 0.0)
    policy = [flt for flt in compiled if not flt.origin.volatile]
    dynamic = [flt for flt in compiled if flt.origin.volatile]
    volatile = Volatile()
    delta = volatile.change(add=rows_of(with_lengths(dynamic, known)), deadline=inf)
    classifier = compile_filters(policy, NAMES, lists=known).with_lists(known, volatile.tables)
    backend.apply(classifier, Volatile())
    backend.change(delta, volatile)
    counted: Counter[Origin] = Counter()
    decided: list[tuple[Packet, Decision]] = []
    for packet in sent:
        as_arrived = replace(packet.arrived or packet, point=Point.ARRIVING)
        is_leaving = packet.point is Point.LEAVING
        if is_leaving and decide(filters, as_arrived, host).action is Action.BLOCK:
            # It never leaves, so a permit that a block of the same match beats is left out.
            continue
        wanted = decide(filters, packet, host, ESSENTIALS)
        verdict = everything.lookup(packet, HOST)
        assert verdict.action is wanted.action
        assert verdict.origin == (wanted.by.origin if wanted.by else None)
        assert verdict.audited == (wanted.audited.origin if wanted.audited else None)
        decided.append((packet, wanted))
        counted.update(each.origin for each in (wanted.by, wanted.audited) if each)
        assert stored.lookup(packet, HOST) == verdict
        assert written_out.lookup(packet, HOST).action is wanted.action
        assert backend.judge(packet, HOST).action is wanted.action
    credited = Counter({origin: count.packets for origin, count in counts_of(backend).items()})
    writers = {table.id: table for table in volatile.tables}
    for (table, key), count in backend.volatile_counts().items():
        credited[writers[table].find(key) or Origin("", "", "")] += count.packets
    assert +credited == counted
    if compiled is filters:
        assert entries.counted_by(backend) == entries.to_count(decided, host)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("*:4000=0:*:UDP", "*=0:*:UDP"),
        ("*:4000=0:*:UDP", "*:4000-4001=0:*:UDP"),
        ("*:4000-4001=0:*:UDP", "*:3000-5000=0:*:UDP"),
        ("*=0:1434:UDP", "*:4000=0:*:UDP"),
        ("*:3000-5000=0:1434:UDP", "*:4000=0:1434-1435:UDP"),
        ("*:4000=0:1434:UDP", "*:4000-4001=0:1434:UDP"),
    ],
)
def test_ports_rank_as_the_design_has_them(better: str, worse: str, action: Action) -> None:
    """Narrower source ports decide, and narrower destination ports before those.

    The oracle takes its ranks from where the compiler does, so it cannot tell.
    """
    other = next(each for each in Action if each not in (action, Action.AUDIT))
    filters = [
        InForce(Origin("static", "P", text), parse_filter(text), what)
        for text, what in ((better, action), (worse, other))
    ]
    backend = MemoryBackend(clock=lambda: 0.0)
    backend.apply(compile_filters(filters), Volatile())
    (_, own) = next(pair for pair in HOST.addresses if pair[0] is Family.IPV4)
    packet = Packet(Point.ARRIVING, Family.IPV4, 0xCB007107, own, 17, 4000, 1434)
    verdict = backend.judge(packet, HOST)
    if action is Action.AUDIT:
        assert verdict == Verdict(other, filters[1].origin, filters[0].origin)
        filters[0] = replace(filters[0], filter=filters[1].filter)
        filters[1] = replace(filters[1], filter=parse_filter(better))
        backend.apply(compile_filters(filters), Volatile())
        assert backend.judge(packet, HOST) == Verdict(other, filters[1].origin)
    else:
        assert verdict == Verdict(action, filters[0].origin)


SENDERS = (Process("service", "a.service"), Process("cgroup", "/b/c"))


@settings(max_examples=500, deadline=None)
@given(
    senders_in_force(SENDERS, conditions()),
    st.lists(packets((Point.SENDING, Point.LEAVING)), min_size=1, max_size=12),
)
def test_filters_by_sender_decide_as_the_oracle_does(
    filters: list[InForce], sent: list[Packet]
) -> None:
    """Of packets whose sender is of one process endpoint, of two, or of none."""
    classifier = compile_filters(filters, NAMES)
    assert from_stored(to_stored(classifier)).digest == classifier.digest
    for packet in sent:
        for senders in (SENDERS, SENDERS[:1], SENDERS[1:], ()):
            of_senders = replace(packet, processes=frozenset(senders))
            wanted = decide(filters, of_senders, HOST, ESSENTIALS).action
            assert classifier.lookup(of_senders, HOST).action is wanted


@settings(max_examples=200, deadline=None)
@given(in_force(), st.randoms(use_true_random=False))
def test_the_order_of_filters_has_no_meaning(filters: list[InForce], luck: random.Random) -> None:
    """The same filters in any order give the same digest."""
    shuffled = list(filters)
    luck.shuffle(shuffled)
    assert compile_filters(shuffled).digest == compile_filters(filters).digest


def test_a_wrong_rank_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that puts wide addresses before narrow ones breaks the chain of equalities."""

    @seed(1434)
    @settings(max_examples=1500, deadline=None, database=None, phases=[Phase.generate])
    @given(in_force(), st.lists(packets(), min_size=12, max_size=20))
    def compare(filters: list[InForce], sent: list[Packet]) -> None:
        classifier = compile_filters(filters)
        for packet in sent:
            wanted = decide(filters, packet, HOST).action
            assert classifier.lookup(packet, HOST).action is wanted

    def wrong(table: TableId, _point: Point | None) -> tuple[object, ...]:
        return (table.rank[0], *(-part for part in table.rank[1:]), repr(table))

    monkeypatch.setattr(TableId, "order_at", wrong)
    with pytest.raises(AssertionError):
        compare()


@pytest.mark.parametrize("broken", ["rank", "place"])
def test_a_wrong_rank_of_entries_is_seen(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Entries of lists that rank by another length, or beside literal ones in another order."""

    @seed(1434)
    @settings(max_examples=6000, deadline=None, database=None, phases=[Phase.generate])
    @given(in_force(listing=True), st.lists(packets(), min_size=12, max_size=20), lists())
    def compare(filters: list[InForce], sent: list[Packet], known: dict[str, AddressList]) -> None:
        all_agree(filters, sent, known)

    prefixes = SHAPES[Kind.PREFIX]
    width, place = prefixes.width, prefixes.place
    if broken == "rank":
        monkeypatch.setattr(
            prefixes,
            "width",
            lambda shape, family: 0 if isinstance(shape, Listed) else width(shape, family),
        )
    else:
        monkeypatch.setattr(
            prefixes,
            "place",
            lambda shape: (
                (-2 - shape.length, shape.name) if isinstance(shape, Listed) else place(shape)
            ),
        )
    tables._places.cache_clear()
    try:
        with pytest.raises(AssertionError):
            compare()
    finally:
        tables._places.cache_clear()
