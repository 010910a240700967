"""A soak: random changes of links, addresses, rules, daemon and foreign programs under a flood.

``python -m tests.moments.soak [--seconds N] [--seed N] [--backend NAME]``; each backend gets the
seconds. It ends with 1 if a packet has leaked, or if the daemon's memory or descriptors grew.

The first half replaces the daemon again and again. In the second it lives on, so that what it
holds can be compared whenever everything is at rest.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.moments import foreign
from tests.moments.changes import Changes, flush_ruleset
from tests.moments.flood import Target
from tests.moments.moments import Moment, moments, perform, possible
from tests.moments.stage import Stage, stage
from tests.netns.site import BACKENDS, BPFFS, HERE4, HERE6

BASE = (Target("wire1", HERE4), Target("wire1", HERE6))
SCENE_S = (0.5, 3.0)
LONGEST_PAUSE_S = 0.05
LEAST_RESTS = 2
RESTS, LEAST_BETWEEN_RESTS_S = 10, 60
"""How often what the daemon holds is looked at while it lives on; less often in a short soak."""
GROWTH_KIB = 8 * 1024
DESCRIPTORS = 4
"""How many descriptors may belong to connections that are just being closed."""
KERNEL_GROWTH_KIB = 64 * 1024
SAID_EVERY_S = 600
"""How often a line says how the soak goes, so that one that is broken off has said something."""
LONG_S = 600
"""A shorter soak does not judge the kernel's memory, which others change as well."""


@dataclass(frozen=True)
class Holdings:
    """What a daemon and the kernel hold while everything is at rest; sizes in KiB."""

    resident: int
    descriptors: int
    pins: int
    kernel: int

    def __str__(self) -> str:
        return (
            f"{self.resident} KiB resident, {self.descriptors} descriptors, {self.pins} pins,"
            f" {self.kernel} KiB of the kernel's"
        )


def holdings(pid: int) -> Holdings:
    """What is held now (proc(5))."""

    def kibibytes(path: str, *names: str) -> int:
        rows = dict(row.split(":", 1) for row in Path(path).read_text().splitlines())
        return sum(int(rows[name].split()[0]) for name in names)

    return Holdings(
        kibibytes(f"/proc/{pid}/status", "VmRSS"),
        sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        sum(1 for _ in BPFFS.rglob("*")),
        kibibytes("/proc/meminfo", "SUnreclaim", "Percpu", "VmallocUsed"),
    )


@dataclass
class Report:
    """What a soak has counted and measured."""

    leaked: int = 0
    passed: int = 0
    sent: int = 0
    events: Tally[str] = field(default_factory=Tally)
    leaks: list[str] = field(default_factory=list)
    causes: Tally[str] = field(default_factory=Tally)
    failures: list[str] = field(default_factory=list)
    held: list[Holdings] = field(default_factory=list)

    def faults(self, seconds: float) -> list[str]:
        """The faults in the report, each in a line; none if all is well."""
        faults = [*self.failures]
        if self.leaked:
            faults.append(f"{self.leaked} of {self.sent} packets leaked")
        if not self.passed:
            faults.append("nothing that is permitted passed")
        if len(self.held) < LEAST_RESTS:
            return [*faults, f"it was at rest {len(self.held)} times only"]
        first, last = self.held[1], self.held[-1]
        if last.resident > first.resident + GROWTH_KIB:
            faults.append(f"the daemon's memory grew from {first.resident} to {last.resident} KiB")
        if last.descriptors > first.descriptors + DESCRIPTORS:
            faults.append(f"descriptors grew from {first.descriptors} to {last.descriptors}")
        if last.pins > first.pins:
            faults.append(f"pins grew from {first.pins} to {last.pins}")
        if seconds >= LONG_S and last.kernel > first.kernel + KERNEL_GROWTH_KIB:
            faults.append(f"the kernel's memory grew from {first.kernel} to {last.kernel} KiB")
        return faults

    def lines(self) -> list[str]:
        """The whole report as lines for people."""
        events, causes = (
            ", ".join(f"{name} {count}" for name, count in tally.most_common())
            for tally in (self.events, self.causes)
        )
        return [
            f"{self.sent} packets sent, {self.leaked} leaked, {self.passed} permitted ones passed",
            f"events: {events}",
            *(f"at rest: {held}" for held in self.held),
            *([f"leaked at the end of: {causes}"] if causes else []),
            *self.leaks[:20],
        ]


class Soak:
    """Random events on a stage."""

    def __init__(self, host: Stage, chance: random.Random) -> None:
        self.report = Report()
        self._host, self._chance = host, chance
        self._moments = tuple(moment for moment in moments() if possible(moment))
        self._changed: set[str] = set()
        self._foreign: dict[str, ExitStack] = {}
        host.prepare(self._moments)
        self._changes = Changes(host.daemon, chance)
        self._begun = self._said = time.monotonic()
        self._latest = ["the start"]
        self._counted = self._count()

    def run(self, seconds: float) -> None:
        """Half of the time with everything, half with the daemon living on."""
        end = time.monotonic() + seconds / 2
        while time.monotonic() < end:
            self._scene(end, replaces=True)
        self._rest()
        rests = max(LEAST_RESTS, min(RESTS, int(seconds / LEAST_BETWEEN_RESTS_S)))
        for _ in range(rests):
            end = time.monotonic() + seconds / 2 / rests
            while time.monotonic() < end:
                self._scene(end, replaces=False)
            self._rest()

    def _scene(self, end: float, *, replaces: bool) -> None:
        """A flood to a few places, and what happens there meanwhile."""
        chosen = self._chance.sample(self._moments, self._chance.randint(1, 3))
        end = min(end, time.monotonic() + self._chance.uniform(*SCENE_S))
        targets = (*BASE, *(target for moment in chosen for target in moment.targets))

        def happen() -> None:
            while time.monotonic() < end:
                name, event = self._event(chosen, replaces=replaces)
                self._watched(name, event)
                time.sleep(self._chance.uniform(0, LONGEST_PAUSE_S))

        result = self._host.under_flood(targets, happen, chosen)
        self.report.leaked += result.leaked + result.leaked_out
        self.report.passed += result.passed
        self.report.sent += result.sent
        if time.monotonic() - self._said >= SAID_EVERY_S:
            self._said = time.monotonic()
            print(f"  after {self._said - self._begun:.0f} s: {self.report.lines()[0]}", flush=True)

    def _event(self, chosen: list[Moment], *, replaces: bool) -> tuple[str, Callable[[], object]]:
        """What happens next, and its name: mostly to the links and addresses under the flood."""
        if self._chance.random() < 0.7:
            moment = self._chance.choice(chosen)
            return moment.name, lambda: self._turn(moment)
        state = self._host.state
        events: list[tuple[str, Callable[[], object]]] = [
            ("a program of others comes or goes", self._turn_foreign),
        ]
        # A table whose owner is dead can be flushed: a limit that docs/design.md names.
        if state != "dead" and self._changes.may_be_flushed:
            events.append(("rules are flushed", flush_ruleset))
        if state == "alive":
            events += [(change.__name__, change) for change in self._changes.all]
            events.append(("the daemon is stopped", lambda: self._host.enter("stopped")))
        if state == "stopped":
            events.append(("the daemon goes on", lambda: self._host.enter("alive")))
        if replaces and state != "dead":
            events.append(("the daemon is killed", lambda: self._host.enter("dead")))
        if replaces and state == "alive":
            events.append(("the daemon hands over", self._hand_over))
        if state == "dead":
            events.append(("the daemon starts", lambda: self._start(chosen)))
        return self._chance.choice(events)

    def _watched(self, name: str, event: Callable[[], object]) -> None:
        """Have an event happen, and note what leaked meanwhile and since the one before."""
        event()
        self.report.events[name] += 1
        self._latest = [*self._latest[-3:], f"{name} ({self._host.state})"]
        before, self._counted = self._counted, self._count()
        if leaked := self._counted - before:
            when = time.monotonic() - self._begun
            self.report.causes[self._latest[-1]] += leaked
            self.report.leaks.append(f"{leaked} leaked at {when:.1f} s: {', '.join(self._latest)}")

    def _count(self) -> int:
        """What has leaked so far, inwards and outwards."""
        return self._host.counters[0].value() + self._host.outside[0].value()

    def _turn(self, moment: Moment) -> None:
        """Have a moment happen, or undo it if it has happened."""
        lines = moment.back if moment.name in self._changed else moment.there
        perform(lines, self._host.counters)
        self._changed ^= {moment.name}

    def _turn_foreign(self) -> None:
        """Put a program of somebody else on the wire, or take it away."""
        side = self._chance.choice(tuple(foreign.SIDES))
        if side in self._foreign:
            self._foreign.pop(side).close()
            return
        verdict = self._chance.choice(("unspec", "ok", "pipe"))
        program = ExitStack()
        if foreign.has_tcx() and self._chance.random() < 0.5:
            order = self._chance.choice((foreign.BPF_F_BEFORE, foreign.BPF_F_AFTER))
            program.enter_context(foreign.tcx("wire0", verdict, side, order))
        else:
            preference = self._chance.choice((1, 60_000))
            program.enter_context(foreign.clsact("wire0", verdict, side, preference))
        self._foreign[side] = program

    def _hand_over(self) -> None:
        self._host.daemon.end(signal.SIGUSR1)
        self._host.state = "dead"

    def _start(self, chosen: list[Moment]) -> None:
        """Start the daemon while links and addresses go on changing."""
        with ThreadPoolExecutor(1) as aside:
            started = aside.submit(self._host.enter, "alive")
            while not started.done():
                self._turn(self._chance.choice(chosen))
        if isinstance(started.exception(), AssertionError):
            # It is tried again, as systemd does.
            self._host.daemon.end(signal.SIGKILL)
            said = self._host.daemon.log().splitlines()[-1]
            self.report.failures.append(f"the daemon did not start: {said}")
        else:
            started.result()
            self._changes.reconnect()

    def _rest(self) -> None:
        """Undo everything, wait until the daemon has followed, and look at what it holds."""
        for moment in self._moments:
            if moment.name in self._changed:
                self._turn(moment)
        was = self._host.state
        self._host.enter("alive")
        if was == "dead":
            self._changes.reconnect()
        while self._foreign:
            self._foreign.popitem()[1].close()
        self._changes.apply()
        self._host.settle()
        assert self._host.daemon.pid
        self.report.held.append(holdings(self._host.daemon.pid))


def soak(backend: str, seconds: float, seed: int) -> tuple[list[str], list[str]]:
    """The faults that a soak has found, and its report."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        stage(Path(name), backend, seed) as host,
    ):
        foreign.load(Path(name))
        running = Soak(host, random.Random(seed))
        try:
            running.run(seconds)
        except Exception as error:  # noqa: BLE001, whatever ends it early, what it counted is told
            running.report.failures.append(f"it was broken off: {error!r}")
        finally:
            foreign.unload()
        log = host.daemon.log()
    faults = running.report.faults(seconds)
    if "Traceback" in log:
        faults.append(f"the daemon had an error: {log[log.index('Traceback') :][:2000]}")
    return faults, running.report.lines()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--backend", action="append", choices=BACKENDS)
    asked = parser.parse_args()
    ended_well = True
    for backend in asked.backend or BACKENDS:
        print(f"{backend}: {asked.seconds:g} s, seed {asked.seed}", flush=True)
        faults, report = soak(backend, asked.seconds, asked.seed)
        for line in (*report, *(f"FAULT: {fault}" for fault in faults)):
            print(f"  {line}", flush=True)
        ended_well = ended_well and not faults
    return 0 if ended_well else 1


if __name__ == "__main__":
    sys.exit(main())
