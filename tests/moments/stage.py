"""Owns the stage of the moments: a host whose daemon blocks, all links prepared, and the count."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.moments.flood import (
    BLOCKED,
    MAC,
    OPEN,
    Counter,
    Flood,
    Outages,
    Target,
    build,
    in_namespace,
    outward,
)
from tests.moments.moments import Moment, perform
from tests.netns import site
from tests.netns.site import (
    HERE4,
    HERE6,
    LONGEST_S,
    PATIENCE,
    PEER,
    Daemon,
    block,
    eventually,
    run,
)

STATES = ("alive", "stopped", "dead")
PAUSES_S = (0.002, 0.01, 0.08)
"""A daemon that is alive is met before it hears of a change, while it acts, and when it has."""
SHORT_S = 0.002
LONGEST_OUTAGE_S = 0.2
"""The longest outage that is accepted, in seconds of the flood: nobody notices it."""


def repetitions(short: int) -> int:
    """How often something is tried: the short form in the suite, or what is asked for."""
    return int(os.environ.get("IPSECD_MOMENTS", short))


@dataclass(frozen=True)
class Result:
    """What was counted while something happened."""

    leaked: int
    passed: int
    leaked_out: int
    passed_out: int
    outage_s: float
    sent: int
    rate: float

    def __str__(self) -> str:
        return (
            f"{self.leaked} leaked and {self.passed} permitted passed of {self.sent} sent"
            f" ({self.rate:.0f}/s), the longest outage was {self.outage_s:.2f} s;"
            f" out {self.leaked_out} leaked and {self.passed_out} passed"
        )


LEAST_SENT = 1000
"""How many packets are waited for if none was sent yet: the flood takes less than 0.01 s."""


class Stage:
    """A host under a flood."""

    def __init__(self, daemon: Daemon, program: Path, chance: random.Random) -> None:
        self.daemon, self.chance = daemon, chance
        self.counters = (Counter(BLOCKED), Counter(OPEN))
        with in_namespace(PEER):
            self.outside = (Counter(BLOCKED), Counter(OPEN))
        self._program = program
        self.state = "alive"

    def prepare(self, chosen: tuple[Moment, ...]) -> None:
        """Do what the moments need before the first time, and wait until the daemon has seen it."""
        for moment in chosen:
            perform(moment.prepare, self.counters)
            if moment.outward:
                perform(f"peer address add {moment.outward}/32 dev lo")
        self.settle()

    def settle(self) -> None:
        """Wait until the daemon enforces everywhere what it should."""
        if self.daemon.backend == "xdp":
            # The daemon also counts as in step before it has heard of new links. Some link may take
            # no program at all, so programs on all links are waited for, but not demanded.
            eventually(_all_have_programs)
        assert eventually(self._in_step, LONGEST_S / PATIENCE), self.daemon.log()

    def _in_step(self) -> bool:
        """Whether the daemon says so; one that lives and does not answer is too busy to."""
        try:
            return "in step" in self.daemon.ctl("status")
        except AssertionError:
            if not self.daemon.lives():
                raise
            return False

    def enter(self, state: str) -> None:
        """Have the daemon alive, stopped, or dead."""
        if self.state == "stopped":
            assert self.daemon.pid
            os.kill(self.daemon.pid, signal.SIGCONT)
        if self.state == "dead":
            self.daemon.start()
        if state == "stopped":
            assert self.daemon.pid
            os.kill(self.daemon.pid, signal.SIGSTOP)
        if state == "dead":
            self.daemon.end(signal.SIGKILL)
        self.state = state

    def pause(self) -> None:
        """Wait for a moment, or for as long as the daemon may need to follow."""
        time.sleep(self.chance.choice(PAUSES_S) if self.state == "alive" else SHORT_S)

    def repeat(self, moment: Moment, count: int) -> Result:
        """A moment, there and back so many times, under a flood to its targets."""

        def happen() -> None:
            for _ in range(count):
                for lines in (moment.there, moment.back):
                    perform(lines, self.counters)
                    self.pause()

        return self.under_flood(moment.targets, happen, (moment,))

    def under_flood(
        self,
        targets: tuple[Target, ...],
        happen: Callable[[], None],
        chosen: Iterable[Moment] = (),
    ) -> Result:
        """What is counted of a flood that lasts until something has happened.

        Another goes out to where the chosen moments have this host send.
        """
        counters = (*self.counters, *self.outside)
        before = [counter.value() for counter in counters]
        with (
            outward(moment.outward for moment in chosen if moment.outward),
            Flood(self._program, targets) as flood,
            Outages(self.counters[1], flood) as outages,
        ):
            happen()
            # On a busy machine the sender may not have had its turn yet.
            eventually(lambda: flood.sent_so_far() >= LEAST_SENT, 60)
        leaked, passed, leaked_out, passed_out = (
            (counter.value() - value) & 0xFFFFFFFF
            for counter, value in zip(counters, before, strict=True)
        )
        return Result(
            leaked, passed, leaked_out, passed_out, outages.longest_s, flood.sent, flood.rate
        )


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(run("ip", "-j", "link", "show"))}


def _all_have_programs() -> bool:
    """Whether there is an XDP program on every link to the peer that is no port."""
    links = json.loads(run("ip", "-j", "link", "show", "type", "veth"))
    return all("xdp" in link or "master" in link for link in links)


@contextmanager
def stage(directory: Path, backend: str, seed: int) -> Iterator[Stage]:
    """A host with the blocked port blocked; nothing that moments made is left afterwards."""
    site.needs_isolation()
    program = build(directory)
    before = _links()
    with site.daemon(directory, backend) as daemon:
        run("ip", "link", "set", "wire0", "address", MAC)
        host = Stage(daemon, program, random.Random(seed))
        try:
            targets = tuple(Target("wire1", address) for address in (HERE4, HERE6))
            unblocked = host.under_flood(targets, lambda: time.sleep(0.05))
            assert unblocked.leaked > unblocked.passed > 0, "the count does not count"
            block(daemon, f"*=0:{BLOCKED}:UDP", f"0=*:{BLOCKED}:UDP")
            yield host
        finally:
            # If the daemon does not start, an earlier error has said so.
            with suppress(AssertionError):
                host.enter("alive")
            for counter in (*host.counters, *host.outside):
                counter.close()
            for name in _links() - before:
                run("ip", "link", "delete", name, check=False)
            perform("sysctl net.ipv6.conf.all.forwarding=0")
