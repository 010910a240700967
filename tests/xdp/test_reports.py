"""What programs tell of the frames that they drop: exactly these, as they are, and no more."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.backend.reporting import SNAP_BYTES, Report
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.records import reports_of
from ipsecd.backend.xdp.reports import ProgramReports, end_left
from ipsecd.backend.xdp.ring import HEADER_BYTES
from ipsecd.backend.xdp.timer import Timer
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host, Point
from ipsecd.model.values import Action, InForce, Origin
from tests.frames import frame_of
from tests.netns.site import BPFFS, needs_isolation
from tests.xdp.observer import DROPPED, takes
from tests.xdp.test_parser import PACKETS, ethernet, kind_of

pytestmark = [pytest.mark.netns]

FILTERS = ("*=*:1434:UDP", "203.0.113.0/24=*", "[2001:db8::/32]=*")
HERE, SOURCE = 0x0A090001, 0xCB007107
LOOPBACK = 1
RING_RECORDS = abi.REPORT_RING_BYTES // (HEADER_BYTES + abi.REPORT.size)
TAGS: tuple[tuple[int, ...], ...] = ((), (0x8100,), (0x88A8, 0x8100))
POINTS = {"receive": Point.ARRIVING, "arrive": Point.ARRIVING, "leave": Point.SENDING}


def blocking(*texts: str, audits: tuple[str, ...] = (), alone: bool = True) -> Programs:
    """Programs that judge (`alone` or not), block these, and drop what they cannot read."""
    programs = Programs(alone=alone)
    programs.set_host(Host(frozenset({(Family.IPV4, HERE)})))
    filters = [
        InForce(Origin("static", "P", text), parse_filter(text), action)
        for action, some in ((Action.BLOCK, texts), (Action.AUDIT, audits))
        for text in some
    ]
    programs.apply(compile_filters(filters), Volatile())
    return programs


@pytest.fixture
def programs() -> Iterator[Programs]:
    """One policy that a port decides, and one for which steps are walked."""
    needs_isolation()
    loaded = blocking(*FILTERS)
    yield loaded
    loaded.close()


@pytest.fixture
def reports(programs: Programs) -> Iterator[ProgramReports]:
    following = ProgramReports()
    following.follow(programs.maps)
    yield following
    following.close()


def run(programs: Programs, hook: str, frame: bytes, *, bare: bool = False, repeat: int = 1) -> int:
    """Run a program; returns its verdict."""
    context = None if hook == "receive" else bytes(192)
    name = f"{hook}_lan{'_bare' if bare else ''}"
    return libbpf.run_program(
        programs.program(name), frame, context=context if repeat == 1 else None, repeat=repeat
    )[0]


def dropped_frame(number: int = 4000, port: int = 1434) -> bytes:
    return frame_of(source=SOURCE, destination=HERE, source_port=number, port=port)


def all_reports(reports: ProgramReports) -> list[Report]:
    found = []
    while some := reports.read(1000):
        found += some
    return found


def corpus() -> Iterator[tuple[bytes, int]]:
    """Frames, each with the length of what stands before its packet."""
    for packet in PACKETS.values():
        for tags in TAGS:
            yield ethernet(packet, kind_of(packet), tags), 14 + 4 * len(tags)
        yield packet, 0
    for length in range(14, 60):
        yield dropped_frame()[:length], 14
    yield dropped_frame(), 14
    yield dropped_frame(port=53), 14
    yield frame_of(source=1 << 24, destination=HERE, source_port=9, port=53), 14


@pytest.mark.parametrize(
    ("hook", "filters"),
    [*((hook, FILTERS) for hook in DROPPED), ("receive", FILTERS[:1])],
    ids=[*DROPPED, "shortcut"],
)
def test_exactly_the_dropped_frames_are_told_and_byte_by_byte(
    hook: str, filters: tuple[str, ...]
) -> None:
    """A corpus of frames, with tags, without an Ethernet header, short ones and unreadable ones."""
    needs_isolation()
    programs, reports = blocking(*filters), ProgramReports()
    reports.follow(programs.maps)
    reports.set_budget(10**6)
    told, passed = 0, 0
    for frame, link in corpus():
        if not takes(hook, frame):
            continue
        if run(programs, hook, frame, bare=not link) != DROPPED[hook]:
            passed += 1
            continue
        (report,) = reports.read(10)
        told += 1
        assert report.link_header == frame[:link]
        assert report.packet == frame[link : link + SNAP_BYTES]
        assert (report.action, report.point) == (Action.BLOCK, POINTS[hook])
        assert report.interface == LOOPBACK
    assert not reports.read(10)
    assert reports.blocked() == told > 50
    assert passed
    reports.close()
    programs.close()


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("hook", DROPPED)
def test_what_an_audit_counts_is_told_where_it_counts(hook: str, alone: bool) -> None:
    """With the drop by another rule, and alone where nobody judges after the programs."""
    needs_isolation()
    audits = "*=*:1434-1436:UDP", "203.0.113.0/24=*:1434:UDP"
    programs, reports = blocking("*=*:1434:UDP", audits=audits, alone=alone), ProgramReports()
    reports.follow(programs.maps)
    reports.set_budget(1000)

    def told(port: int) -> list[Action]:
        before = programs.counts()
        dropped = run(programs, hook, dropped_frame(port=port)) == DROPPED[hook]
        found = reports.read(10)
        assert {each.packet for each in found} <= {dropped_frame(port=port)[14:]}
        assert dropped == (Action.BLOCK in {each.action for each in found})
        after = programs.counts()
        assert sum(after[o].packets - before[o].packets for o in after) == len(found)
        return [each.action for each in found]

    assert told(1434) == [Action.AUDIT, Action.BLOCK]
    assert told(1435) == [Action.AUDIT] * alone
    assert told(1437) == []
    assert reports.blocked() == 2 + alone
    reports.set_budget(0)
    run(programs, hook, dropped_frame())
    run(programs, hook, dropped_frame(port=1435))
    assert reports.blocked() == 2 + alone
    reports.close()
    programs.close()


def test_a_report_says_the_generation_the_length_and_the_time(
    programs: Programs, reports: ProgramReports
) -> None:
    """The length is what the IP header says, also of a frame that is padded."""
    reports.set_budget(1000)
    run(programs, "receive", dropped_frame() + bytes(20))
    (report,) = reports.read(10)
    assert report.length == len(dropped_frame()) - 14
    (generation,) = struct.unpack_from("=Q", programs._state.lines, abi.GENERATION_OFFSET)
    assert report.mark == generation > 0
    # The clocks of both are those of this machine.
    run(programs, "receive", dropped_frame())
    (later,) = reports.read(10)
    assert report.at_ns < later.at_ns


def test_nothing_is_told_or_counted_while_nobody_watches(
    programs: Programs, reports: ProgramReports
) -> None:
    """Not before, not after, and what is counted begins anew."""
    for _ in range(3):
        run(programs, "receive", dropped_frame())
        run(programs, "leave", dropped_frame())
        assert reports.read(10) == []
        assert not select.select(reports.descriptors(), [], [], 0)[0]
        reports.set_budget(1000)
        assert reports.blocked() == 0
        run(programs, "arrive", dropped_frame())
        run(programs, "receive", dropped_frame())
        assert select.select(reports.descriptors(), [], [], 0)[0]
        assert reports.blocked() == 2
        assert len(reports.read(1)) == 1
        # One is left, and belongs to nobody when it is switched on again.
        reports.set_budget(0)
        run(programs, "receive", dropped_frame())
        assert reports.blocked() == 2


def test_a_flood_is_counted_and_no_more_is_told_than_allowed(
    programs: Programs, reports: ProgramReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the budget at each tick, of which nothing is saved; small ones add up."""
    ticks: list[int] = []
    monkeypatch.setattr(Timer, "drain", lambda _: ticks.pop() if ticks else 0)

    def flood(count: int = 250) -> int:
        assert run(programs, "receive", dropped_frame(), repeat=count) == DROPPED["receive"]
        return len(all_reports(reports))

    reports.set_budget(1000)
    assert [flood(), flood(), reports.blocked()] == [100, 0, 500]
    ticks.append(1)
    assert reports.read(1) == []
    assert flood(30) == 30
    ticks.append(1)
    assert reports.read(1) == []
    assert flood() == 100
    ticks.append(7)
    assert reports.read(1) == []
    assert flood() == 100
    reports.set_budget(5)
    told = 0
    for _ in range(40):
        ticks.append(1)
        assert reports.read(1) == []
        told += flood()
    assert told == 20
    assert reports.blocked() == 500 + 30 + 250 + 250 + 40 * 250


def test_who_wants_more_is_told_more_at_once(programs: Programs, reports: ProgramReports) -> None:
    """Not from the next part on: what is dropped until then would be lost."""
    reports.set_budget(20)
    run(programs, "receive", dropped_frame(), repeat=5)
    assert len(all_reports(reports)) == 2
    reports.set_budget(1000)
    run(programs, "receive", dropped_frame(), repeat=90)
    assert len(all_reports(reports)) >= 90


def test_the_budget_comes_by_itself(programs: Programs, reports: ProgramReports) -> None:
    """Whoever reads when the descriptor is readable is told of more, ten times a second."""
    reports.set_budget(20)
    told = 0
    while told < 8:
        run(programs, "receive", dropped_frame(), repeat=50)
        assert select.select(reports.descriptors(), [], [], 60)[0]
        told += len(reports.read(100))


def test_nobody_is_woken_while_nothing_is_dropped(
    programs: Programs, reports: ProgramReports
) -> None:
    """Asking for the same budget again, as at every look, wakes nobody; what is dropped does."""

    def is_readable(seconds: float) -> bool:
        return bool(select.select(reports.descriptors(), [], [], seconds)[0])

    for _ in range(3):
        reports.set_budget(20)
        for _ in range(5):
            if is_readable(0.3):
                assert reports.read(10) == []
        reports.set_budget(20)
        assert not is_readable(0.3)
        run(programs, "receive", dropped_frame(), repeat=50)
        assert is_readable(60)
        assert len(reports.read(10)) == 2
        # The next part comes by itself.
        assert is_readable(60)
        assert reports.read(10) == []
        run(programs, "receive", dropped_frame(), repeat=50)
        assert len(reports.read(10)) == 2


def test_reports_and_losses_are_all_that_was_dropped(
    programs: Programs, reports: ProgramReports
) -> None:
    """The ring is run through many times, in parts of odd sizes, and is full now and then."""
    reports.set_budget(10**9)
    told: list[int] = []
    numbers = iter(range(1, 65536))
    for most in (1, 7, 1000, 10**6):
        for _ in range(3000):
            run(programs, "receive", dropped_frame(next(numbers)))
        while some := reports.read(most):
            assert len(some) <= most
            told += [int.from_bytes(report.packet[20:22]) for report in some]
    assert told == list(range(1, 12001))
    assert reports.blocked() == 12000
    run(programs, "receive", dropped_frame(), repeat=RING_RECORDS + 1000)
    rest = len(all_reports(reports))
    assert RING_RECORDS - 1 <= rest <= RING_RECORDS
    assert reports.blocked() == 12000 + RING_RECORDS + 1000
    run(programs, "receive", dropped_frame(7))
    (report,) = reports.read(9)
    assert int.from_bytes(report.packet[20:22]) == 7


def test_programs_that_come_and_go_are_counted_together(
    programs: Programs, reports: ProgramReports
) -> None:
    """What those have told that are gone can be read, and the budget reaches those that come."""
    reports.set_budget(10**6)
    others = blocking("*=*:1434:UDP")
    run(programs, "receive", dropped_frame(1))
    reports.follow(others.maps)
    reports.follow(others.maps)
    run(others, "receive", dropped_frame(2))
    reports.leave(programs.maps)
    run(programs, "receive", dropped_frame(3))
    run(others, "receive", dropped_frame(4))
    assert reports.blocked() == 3
    ports = [int.from_bytes(report.packet[20:22]) for report in all_reports(reports)]
    assert sorted(ports) == [1, 2, 4]
    reports.leave(others.maps)
    others.close()
    assert (reports.blocked(), reports.read(10)) == (3, [])
    reports.set_budget(0)
    reports.follow(programs.maps)
    reports.set_budget(10)
    run(programs, "receive", dropped_frame(5))
    assert (reports.blocked(), len(reports.read(10))) == (1, 1)


def test_what_a_killed_process_left_on_is_switched_off(programs: Programs) -> None:
    """By the pins of its maps; where there are none, nothing happens."""
    BPFFS.mkdir(exist_ok=True)
    directory = BPFFS / "maps-1"
    programs.pin(directory)
    reports = ProgramReports()
    reports.follow(programs.maps)
    reports.set_budget(1000)
    try:
        run(programs, "receive", dropped_frame())
        assert reports.blocked() == 1
        end_left(directory)
        end_left(directory / "no such")
        run(programs, "receive", dropped_frame())
        assert reports.blocked() == 1
        assert len(reports.read(10)) == 1
    finally:
        reports.close()
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


def test_the_ring_is_as_large_as_the_daemon_thinks(programs: Programs) -> None:
    """It maps that much."""
    assert libbpf.map_info(programs.maps["reports"]).max_entries == abi.REPORT_RING_BYTES


def test_closed_reports_have_nothing(programs: Programs) -> None:
    """A reader that comes too late finds nothing, and no error."""
    reports = ProgramReports()
    reports.follow(programs.maps)
    reports.set_budget(10)
    run(programs, "receive", dropped_frame())
    reports.close()
    assert reports.read(10) == []
    assert reports.descriptors() == ()


@given(
    st.binary(max_size=abi.REPORTED_BYTES),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)
def test_any_bytes_are_a_report(frame: bytes, bare: bool, length: int, generation: int) -> None:
    """Whatever a frame holds, nothing of it is lost but what is too long, and nothing fails."""
    record = bytes(HEADER_BYTES) + abi.REPORT.pack(
        5, generation, 3, length, len(frame), 1, bare, abi.DROPPED, frame
    )
    reports = reports_of(record * 2, 10)
    assert reports[0] == reports[1]
    report = reports[0]
    assert (report.link_header + report.packet) == frame[: len(report.link_header) + SNAP_BYTES]
    assert (report.at_ns, report.interface, report.point) == (15, 3, Point.SENDING)
    assert report.mark == generation % 2**32
    assert 0 <= report.length < 2**32
