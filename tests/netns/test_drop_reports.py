"""The rules tell of what they drop while somebody is told, and of nothing, at no cost, else."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator

import pytest

from ipsecd.backend.base import Count
from ipsecd.backend.memory import MemoryBackend
from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.log_socket import LogSocket
from ipsecd.backend.nftables.told import Told
from ipsecd.backend.nftables.wire import Message
from ipsecd.backend.registry import lacking_for_reports
from ipsecd.backend.reporting import SNAP_BYTES, Report
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, InForce, Origin
from tests.conformance.wire import NEAR_LINK, Datagram, Wire
from tests.counts import counts_of
from tests.netns import site
from tests.netns.site import PATIENCE, run

pytestmark = pytest.mark.netns

IN4, IN6 = Datagram(7), Datagram(7, Family.IPV6)
OUT4, OUT6 = Datagram(9, outgoing=True), Datagram(9, Family.IPV6, outgoing=True)
OTHER = Datagram(8)
RULE = Origin("static", "P", "R")


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    site.needs_isolation()
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    nftables = NftablesBackend()
    yield nftables
    nftables.remove()
    nftables.close()


def policy(*texts: str) -> Classifier:
    filters = texts or ("*=0:7:UDP", "0=*:9:UDP")
    return compile_filters(InForce(RULE, parse_filter(t), Action.BLOCK) for t in filters)


def table() -> str:
    return run("nft", "list", "table", "inet", "ipsecd")


def told(backend: NftablesBackend, count: int) -> list[Report]:
    """Reports, once there are so many; and no more come after them."""
    reports: list[Report] = []
    end = time.monotonic() + 20 * PATIENCE
    while len(reports) < count and time.monotonic() < end:
        select.select(backend.reporting.descriptors(), [], [], 0.1)
        reports += backend.reporting.read(50)
    time.sleep(0.1)
    reports += backend.reporting.read(50)
    assert len(reports) == count
    return reports


def test_each_dropped_packet_is_told_of_as_it_was(backend: NftablesBackend, wire: Wire) -> None:
    """Of both IP versions, arriving and sent; what passes is not told of."""
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(1000)
    begun = time.time_ns()
    assert wire.passes(IN4, IN6, OUT4, OUT6, OTHER) == [False] * 4 + [True]
    reports = told(backend, 4)
    assert backend.reporting.blocked() == 4
    link = socket.if_nametoindex(NEAR_LINK)
    assert {report.interface for report in reports} == {link}
    assert all(begun - 10**9 <= report.at_ns <= time.time_ns() for report in reports)
    arriving = {r.packet[0] >> 4: r for r in reports if r.point is Point.ARRIVING}
    sent = {r.packet[0] >> 4: r for r in reports if r.point is Point.SENDING}
    assert arriving.keys() == sent.keys() == {4, 6}
    assert (arriving[4].length, arriving[6].length) == (29, 49)
    assert arriving[4].packet[20:24] == (40_000).to_bytes(2, "big") + (7).to_bytes(2, "big")
    assert arriving[4].link_header == bytes.fromhex("020000000001020000000002" + "0800")
    assert sent[4].link_header == b""
    assert {report.action for report in reports} == {Action.BLOCK}


def test_what_is_told_and_what_is_lost_are_what_was_dropped(
    backend: NftablesBackend, wire: Wire
) -> None:
    """More than the budget is counted, exactly, and not told of."""
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(50)
    wire.passes(*[IN4] * 2000)
    assert backend.reporting.blocked() == 2000
    reports: list[Report] = []
    while select.select(backend.reporting.descriptors(), [], [], 0.2)[0]:
        reports += backend.reporting.read(1000)
    # The second that the flood took may have been more than one, on a busy machine.
    assert 50 <= len(reports) < 1000
    assert counts_of(backend)[RULE].packets == 2000


def test_a_long_packet_is_told_of_with_its_head_and_its_length(
    backend: NftablesBackend, wire: Wire
) -> None:
    """The kernel gives no more than was asked for."""
    del wire
    backend.apply(policy("0=*:9:UDP"), Volatile())
    backend.reporting.set_budget(10)
    run("python3", "-c", site.SEND, "10.9.0.2", "9", "1", "1200")
    (report,) = told(backend, 1)
    assert len(report.packet) == SNAP_BYTES
    assert report.length == 1228


def test_a_packet_that_cannot_be_read_is_told_of(backend: NftablesBackend, wire: Wire) -> None:
    """It is dropped before any rule, and counts."""
    del wire
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(10)
    # An IP header that says UDP, and nothing behind it.
    send = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW);"
        "s.sendto(bytes.fromhex('450000140000000040110000' '0a090002' '0a090001'), ('10.9.0.1', 0))"
    )
    run("ip", "netns", "exec", "conformance", "python3", "-c", send)
    (report,) = told(backend, 1)
    assert (report.length, len(report.packet)) == (20, 20)
    assert (backend.unparsable(), backend.reporting.blocked()) == (1, 1)


def test_switched_off_the_table_is_as_it_was(backend: NftablesBackend, wire: Wire) -> None:
    """Rules, sets and counts are the same; and switching on has lost no count."""
    volatile = Volatile()
    backend.apply(policy(), volatile)
    rule = InForce(Origin("dynamic", "", "d"), parse_filter("10.9.0.3=0"), Action.BLOCK)
    backend.change(volatile.change(add=rows_of([rule])), volatile)
    wire.passes(IN4, Datagram(8, peer=1))
    before, counts = table(), (counts_of(backend), backend.volatile_counts())
    for budget in (100, 200, 0):
        backend.reporting.set_budget(budget)
        assert (counts_of(backend), backend.volatile_counts()) == counts
        assert (table() == before) is (budget == 0)
        assert backend.observe().drift == ()
    assert counts[0] == {RULE: Count(1, 29)}
    assert backend.reporting.descriptors() == ()


def test_another_budget_begins_nothing_anew(backend: NftablesBackend, wire: Wire) -> None:
    """The count goes on; and begins at zero when it was switched off in between."""
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(100)
    wire.passes(IN4)
    backend.reporting.set_budget(200)
    wire.passes(IN6)
    assert backend.reporting.blocked() == 2
    backend.reporting.set_budget(0)
    assert backend.reporting.blocked() == 0
    backend.reporting.set_budget(100)
    wire.passes(IN6)
    assert backend.reporting.blocked() == 1


def test_it_goes_on_when_what_is_in_force_changes(backend: NftablesBackend, wire: Wire) -> None:
    """Other policies and dynamic rules are told of too; the count goes on."""
    volatile = Volatile()
    backend.reporting.set_budget(100)
    assert backend.reporting.blocked() == 0
    backend.apply(policy(), volatile)
    wire.passes(IN4)
    backend.apply(policy("*=0:8:UDP"), volatile)
    assert wire.passes(OTHER, IN4) == [False, True]
    rule = InForce(Origin("dynamic", "", "d"), parse_filter("10.9.0.2=0"), Action.BLOCK)
    backend.change(volatile.change(add=rows_of([rule])), volatile)
    wire.passes(IN4)
    backend.change(volatile.change(remove=[rule.origin]), volatile)
    assert wire.passes(IN4) == [True]
    told(backend, 3)
    assert backend.reporting.blocked() == 3
    assert backend.observe().drift == ()


def test_in_a_flood_few_are_looked_at_and_as_many_told_of(
    backend: NftablesBackend, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules change for another order of magnitude, and back; the count stays exact."""
    monkeypatch.setattr("ipsecd.backend.nftables.drop_reports.LOOK_S", 0.0)
    monkeypatch.setattr("ipsecd.backend.nftables.drop_reports.SHARE", 0)
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(10)
    assert backend.reporting.blocked() == 0
    wire.passes(*[IN4] * 3000)
    assert backend.reporting.blocked() == 3000
    assert "numgen random mod" in table()
    assert backend.observe().drift == ()
    wire.passes(*[IN4] * 3000)
    assert backend.reporting.blocked() == 6000
    while select.select(backend.reporting.descriptors(), [], [], 0.2)[0]:
        assert backend.reporting.read(1000)
    time.sleep(0.2)
    assert backend.reporting.blocked() == 6000
    assert "numgen" not in table()
    wire.passes(IN4)
    assert backend.reporting.blocked() == 6001


def test_a_flood_that_comes_and_goes_has_few_rules_written(
    backend: NftablesBackend, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that takes long, the rules stay as they are for a while; the count stays exact."""
    monkeypatch.setattr("ipsecd.backend.nftables.drop_reports.LOOK_S", 0.0)
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(10)
    write, written = backend.reporting._write_rules, list[float]()

    def take_long() -> None:
        written.append(time.monotonic())
        time.sleep(0.5)
        write()

    monkeypatch.setattr(backend.reporting, "_write_rules", take_long)
    for count in range(1, 6):
        wire.passes(*[IN4] * 3000)
        assert backend.reporting.blocked() == 3000 * count
        time.sleep(0.1)
        assert backend.reporting.blocked() == 3000 * count
    assert len(written) == 1
    assert "numgen random mod" in table()


@pytest.mark.parametrize(
    ("rate", "before", "after"),
    [
        (0, 1, 1),
        (1_000, 1, 1),
        (7_000, 1, 1),
        (17_000, 1, 8),
        (430_000, 1, 128),
        (430_000, 64, 64),
        (100_000, 128, 32),
        (3_000, 128, 1),
        (3_000, 4, 1),
    ],
)
def test_how_many_are_chosen(rate: int, before: int, after: int) -> None:
    """At least twice as many as the budget are left, and it does not change for little."""
    told = Told(1, 1000, before).suited(rate)
    assert told.one_in == after
    assert after == 1 or rate / after >= 2000


def test_what_audits_count_is_told_of_too(backend: NftablesBackend, wire: Wire) -> None:
    """Once each, before it passes or is dropped by what stands below; and no other audit is."""
    filters = (
        (Action.AUDIT, "10.9.0.2=0:7:UDP", "above a block"),
        (Action.BLOCK, "*=0:7:UDP", "R"),
        (Action.AUDIT, "*=0:8:UDP", "alone"),
        (Action.PERMIT, "10.9.0.3=0:8:UDP", "let in"),
        (Action.AUDIT, "0=*:9:UDP", "out"),
    )
    rules = [InForce(Origin("static", "P", name), parse_filter(t), a) for a, t, name in filters]
    backend.apply(compile_filters(rules), Volatile())
    before = table()
    backend.reporting.set_budget(1000)
    sent = (IN4, OTHER, Datagram(8, peer=1), Datagram(7, peer=1), OUT4)
    assert wire.passes(*sent) == [False, True, True, False, True]
    reports = told(backend, 5)
    seen = sorted(
        (r.action.value, r.point.value, int.from_bytes(r.packet[22:24], "big")) for r in reports
    )
    assert seen == [
        ("audit", "arriving", 7),
        ("audit", "arriving", 8),
        ("audit", "sending", 9),
        ("block", "arriving", 7),
        ("block", "arriving", 7),
    ]
    assert backend.reporting.blocked() == 5
    counts = {origin.rule: count.packets for origin, count in counts_of(backend).items()}
    assert counts == {"above a block": 1, "R": 2, "alone": 1, "let in": 1, "out": 1}
    assert backend.observe().drift == ()
    backend.reporting.set_budget(0)
    assert without_counts(table()) == without_counts(before)


def without_counts(text: str) -> list[str]:
    return [line for line in text.splitlines() if "packets" not in line]


def test_what_is_not_needed_any_more_goes_all_the_same(backend: NftablesBackend) -> None:
    """The counter of what is told of is needed, and keeps nothing else from being deleted."""
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(100)
    other = InForce(Origin("static", "P", "other"), parse_filter("*=0:8:UDP"), Action.BLOCK)
    backend.apply(compile_filters([other]), Volatile())
    counters = backend._reader.counters()
    assert len([name for name in counters if name.startswith("rule_")]) == 1
    assert "dropped" in counters


def test_it_is_put_back_after_others_flushed_the_table(wire: Wire) -> None:
    """As on kernels that protect no table: what was counted and read before is not forgotten."""
    site.needs_isolation()
    backend = NftablesBackend(protect=False)
    try:
        backend.apply(policy(), Volatile())
        backend.reporting.set_budget(100)
        wire.passes(IN4, IN6)
        assert backend.reporting.blocked() == 2
        run("nft", "flush", "ruleset")
        assert backend.reporting.blocked() == 2
        assert backend.changed()
        assert backend.observe().drift
        backend.apply(policy(), Volatile())
        wire.passes(IN4)
        assert backend.reporting.blocked() == 3
        told(backend, 3)
        backend.reporting.set_budget(0)
        assert "chain dropped" not in table()
    finally:
        backend.remove()
        backend.close()


def test_what_a_killed_process_left_is_gone_at_the_next_start(backend: NftablesBackend) -> None:
    """Its first state has rules that tell of nothing."""
    backend.apply(policy(), Volatile())
    before = table()
    backend.reporting.set_budget(100)
    backend.close()
    following = NftablesBackend()
    following.apply(policy(), Volatile())
    assert "chain dropped" not in table()
    assert "counter dropped" not in table()
    assert len(table().splitlines()) == len(before.splitlines())
    following.remove()
    following.close()
    backend.__init__()  # type: ignore[misc]


def test_what_was_counted_before_it_was_switched_on_is_not_lost_now(
    backend: NftablesBackend, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that could not be deleted, or that a killed process left, begins a new count."""

    def fail() -> None:
        raise BackendFailed("no")

    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(100)
    wire.passes(IN4, IN6)
    assert backend.reporting.blocked() == 2
    with monkeypatch.context() as patch:
        patch.setattr(backend.reporting, "_write_rules", fail)
        with pytest.raises(BackendFailed):
            backend.reporting.set_budget(0)
    backend.reporting.set_budget(100)
    assert backend.reporting.blocked() == 0
    wire.passes(IN4)
    assert backend.reporting.blocked() == 1
    backend.close()
    following = NftablesBackend()
    following.reporting.set_budget(100)
    assert following.reporting.blocked() == 0
    following.apply(policy(), Volatile())
    assert following.reporting.blocked() == 0
    wire.passes(IN4, IN6)
    assert following.reporting.blocked() == 2
    following.remove()
    following.close()
    backend.__init__()  # type: ignore[misc]


def test_withdrawn_and_put_in_force_again_it_tells_again(
    backend: NftablesBackend, wire: Wire
) -> None:
    """Nothing is in force in between, and nothing is wrong with that."""
    backend.apply(policy(), Volatile())
    backend.reporting.set_budget(100)
    backend.remove()
    assert backend.reporting.blocked() == 0
    assert wire.passes(IN4) == [True]
    backend.apply(policy(), Volatile())
    wire.passes(IN4)
    told(backend, 1)


def test_two_instances_have_a_group_each() -> None:
    """Nobody reads what another is told; what others have bound is left alone."""
    site.needs_isolation()
    first, second = LogSocket(), LogSocket()
    try:
        assert first.group != second.group
    finally:
        first.close()
        second.close()
    assert first.read(10) == []
    assert first.fileno() == -1


def test_a_kernel_that_takes_no_such_rule_is_told_by_name(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules stay as they are, and the reason names what is missing."""
    backend.apply(policy(), Volatile())
    before = table()

    def fail(steps: list[Message]) -> None:
        raise BackendFailed(f"no {steps[0].what}", "")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_commit", fail)
        with pytest.raises(Refused, match="cannot tell of what they drop"):
            backend.reporting.set_budget(100)
    assert backend.reporting.descriptors() == ()
    assert table() == before
    backend.apply(policy("*=0:8:UDP"), Volatile())
    assert "chain dropped" not in table()


def test_what_the_kernel_lacks_is_said(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, as doctor shows it; here it lacks nothing, and asking leaves nothing behind."""
    backend.apply(policy(), Volatile())
    before = run("nft", "list", "ruleset")
    assert lacking_for_reports(backend) == ()
    assert lacking_for_reports(MemoryBackend()) == ()
    assert run("nft", "list", "ruleset") == before

    def refuse(_: LogSocket) -> int:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def log_badly(*_: int) -> bytes:
        return ex.in_set("no_such_set")

    monkeypatch.setattr(LogSocket, "_bind_group", refuse)
    monkeypatch.setattr("ipsecd.backend.nftables.features.ex.logged", log_badly)
    of_rules, of_socket = lacking_for_reports(backend)
    assert "nft_log" in of_rules
    assert "nfnetlink_log" in of_socket
    with pytest.raises(Refused, match="cannot tell of packets: No such file"):
        backend.reporting.set_budget(10)


@pytest.mark.timeout(280)
def test_it_is_switched_on_quickly_however_much_is_blocked(backend: NftablesBackend) -> None:
    """A hundred thousand filters of one rule: only rules are written, and no set is touched."""
    (row,) = rows_of([InForce(RULE, parse_filter("10.0.0.0=0"), Action.BLOCK)])
    entries = {(10 << 24 | number).to_bytes(4, "big"): RULE for number in range(100_000)}
    backend.apply(Classifier((pack(row.table, entries),)), Volatile())
    sets = set(backend._reader.sets())
    took = []
    for budget in (100, 0) * 5:
        begun = time.process_time()
        backend.reporting.set_budget(budget)
        took.append(time.process_time() - begun)
    assert set(backend._reader.sets()) == sets
    print(f"switching took {sorted(took)[5] * 1000:.1f} ms")
    assert sorted(took)[5] < 0.05
