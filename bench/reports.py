"""What it costs programs to tell what they drop, beside not telling it.

A test run (bpf(2)) of one frame that is dropped, in nanoseconds: while nobody watches, when the
budget is used up, and when each frame is told. Then the rate at which a flood through a wire is
dropped, with a reader that takes what is told. All are medians, and take turns in one process.
"""

from __future__ import annotations

import select
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import if_nametoindex

from bench.classify import HOST, ME_ADDRESS, OBJECT, ports_blocked, timed
from bench.isolation import must_be_isolated
from bench.xdp_filter import Sender, wires
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.reports import ProgramReports
from ipsecd.compiler.volatile import Volatile
from tests.frames import frame_of

FRAME = frame_of(source=0xC0000201, destination=ME_ADDRESS, source_port=4000, port=1434)
ROUNDS, TOLD_AT_ONCE, XDP_DROP = 15, 4000, 1
BUDGETS = {"off": 0, "on, 100 a second": 100, "on, 10,000 a second": 10_000}


def test_runs(programs: Programs, reports: ProgramReports) -> None:
    """Print what one dropped frame costs."""
    program = programs.program("receive_lan")
    figures: dict[str, list[int]] = {}
    run = timed(program, FRAME, XDP_DROP)
    for _ in range(ROUNDS):
        reports.set_budget(0)
        figures.setdefault("nobody watches", []).append(run())
        reports.set_budget(1)
        figures.setdefault("the budget is used up", []).append(run())
        reports.set_budget(0)
        reports.set_budget(10**9)
        verdict, nanoseconds = libbpf.run_program(program, FRAME, repeat=TOLD_AT_ONCE)
        assert verdict == XDP_DROP
        assert len(reports.read(TOLD_AT_ONCE)) == TOLD_AT_ONCE
        figures.setdefault("each is told", []).append(nanoseconds)
    reports.set_budget(0)
    for name, values in figures.items():
        print(f"a dropped frame, {name:22} {statistics.median(values):5.0f} ns")


@contextmanager
def read(reports: ProgramReports) -> Iterator[Callable[[], int]]:
    """Read in another thread, as the daemon does; the function says how many were told."""
    told, ended = [0], threading.Event()

    def follow() -> None:
        while not ended.is_set():
            if select.select(reports.descriptors(), [], [], 0.05)[0]:
                told[0] += len(reports.read(1000))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield lambda: told[0]
    finally:
        ended.set()
        thread.join()


def floods(programs: Programs, reports: ProgramReports) -> None:
    """Print how many frames of a flood are dropped in a second, and how many are told."""
    (origin,) = programs.counts()
    rates: dict[str, list[float]] = {name: [] for name in BUDGETS}
    shares: dict[str, list[float]] = {name: [] for name in BUDGETS}
    with wires():
        libbpf.create_link(
            programs.program("receive_lan"),
            if_nametoindex("ipsecd0"),
            libbpf.BPF_XDP,
            libbpf.XDP_FLAGS_DRV_MODE,
        )
        sender = Sender()
        try:
            for _ in range(ROUNDS):
                for name, budget in BUDGETS.items():
                    reports.set_budget(budget)
                    before = programs.counts()[origin].packets
                    with read(reports) as told:
                        _, seconds = sender.flood("ipsecd", FRAME)
                    dropped = programs.counts()[origin].packets - before
                    assert not budget or reports.blocked() == dropped
                    rates[name].append(dropped / seconds)
                    shares[name].append(told() / seconds)
                    reports.set_budget(0)
        finally:
            sender.close()
    base = statistics.median(rates["off"])
    for name in BUDGETS:
        rate, share = statistics.median(rates[name]), statistics.median(shares[name])
        print(
            f"a flood, {name:20} {rate / 1e6:5.2f} M/s dropped, {rate / base:.2f} of off;"
            f" {share:6.0f} a second told"
        )


def main() -> None:
    must_be_isolated()
    programs = Programs(path=OBJECT, more_maps=("ports", "prefixes", "sources"))
    programs.set_host(HOST)
    programs.apply(ports_blocked(1), Volatile())
    reports = ProgramReports()
    reports.follow(programs.maps)
    test_runs(programs, reports)
    floods(programs, reports)
    reports.close()


if __name__ == "__main__":
    main()
