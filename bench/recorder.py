"""What the flight recorder costs: a day of 10,000 bans an hour, each for an hour, in memory.

The same bans are made with the recorder and without it, in turns in one run, so that both meet the
same machine. What the recorder's thread does is timed apart. All is CPU time, which others on the
machine hardly change. Run it with
``python -m bench.recorder [HOURS]``.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from bench.isolation import must_be_isolated
from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.engine.recorder.journal import Time
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import ALWAYS, Action
from ipsecd.output import say
from ipsecd.sources.dynamic import DynamicRule

BANS_AN_HOUR, LASTS_S = 10_000, 3600.0
BEGUN = 1_795_867_200 * 1_000_000_000
AT_A_TIME = 4
"""So many bans are made before the recorder writes: at that rate it writes one or two at a time."""


class Bench:
    """An engine over memory, whose clocks go on by what is simulated."""

    def __init__(self, path: Path, *, records: bool) -> None:
        self.now = 0.0
        self.engine = Engine(
            Config(recorder_bytes=(1 << 30) if records else 0),
            Directories(path / "etc", path / "lib", path / "run"),
            lambda: MemoryBackend(self.clock),
            clock=self.clock,
        )
        self.engine.start()
        recorder = self.engine.recorder
        recorder._clocks = self.clocks  # noqa: SLF001 - a day takes minutes here
        recorder.start(self.engine.state, Surroundings(), lambda: "memory")
        self.pieces: list[float] = []
        self.cpu = 0.0
        self.bans: list[float] = []
        self.write()

    def clock(self) -> float:
        return self.now

    def clocks(self) -> Time:
        passed = int(self.now * 1e9)
        return Time(BEGUN + passed, passed)

    def ban(self, number: int) -> None:
        address = f"{10 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        rule = DynamicRule(
            f"ban-{number}",
            (parse_filter(f"{address}=0"),),
            Action.BLOCK,
            ALWAYS,
            self.now + LASTS_S,
            BEGUN / 1e9 + self.now,
            "uid 0 (root) pid 4711",
        )
        begun = time.thread_time()
        self.engine.add_dynamic(rule)
        self.bans.append(time.thread_time() - begun)

    def some(self, first: int) -> None:
        for number in range(first, first + AT_A_TIME):
            self.now += 3600 / BANS_AN_HOUR
            self.ban(number)
        self.engine.expire()

    def write(self) -> None:
        while True:
            begun = time.thread_time()
            is_more = self.engine.recorder.work()
            self.pieces.append(time.thread_time() - begun)
            self.cpu += self.pieces[-1]
            if not is_more:
                return


def main() -> None:
    must_be_isolated()
    hours = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with_it = Bench(path / "with", records=True)
        without = Bench(path / "without", records=False)
        for first in range(0, hours * BANS_AN_HOUR, AT_A_TIME):
            # Garbage of all is collected in whichever turn it is.
            for bench in (with_it, without)[:: 1 if first // AT_A_TIME % 2 else -1]:
                bench.some(first)
            with_it.write()
        bans = len(with_it.bans)
        changes = 2 * bans - len(with_it.engine.dynamic)
        files = [each.stat().st_size for each in (path / "with/lib/recorder").rglob("*")]
        say(f"{bans:,} bans in {hours} hours, each for an hour")
        for name, bench in (("without", without), ("with", with_it)):
            median = statistics.median(bench.bans) * 1e6
            mean = statistics.fmean(bench.bans) * 1e6
            say(f"a ban {name:>8}: median {median:6.1f} µs, mean {mean:6.1f} µs")
        say(f"recorder's thread: {with_it.cpu / changes * 1e6:.1f} µs a change")
        pieces = sorted(with_it.pieces)
        longest = pieces[-1] * 1e3
        say(f"a piece of its work: median {statistics.median(pieces) * 1e3:.1f} ms, {longest:.1f}")
        say(f"on disk: {sum(files) / 1e6:.2f} MB, {sum(files) / changes:.0f} bytes a change")
        luck, times = Random(1), []
        for _ in range(20):
            begun = time.thread_time()
            moment = BEGUN + int(luck.random() * with_it.now * 1e9)
            past = with_it.engine.recorder.past(moment)
            times.append(time.thread_time() - begun)
            assert past.state.dynamic
        say(f"a moment: median {statistics.median(times):.2f} s, most {max(times):.2f} s")
        say(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
