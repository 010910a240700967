"""What grows with links, containers and connections, beside nft by hand in the same rounds.

A start with so many links, which programs have to be attached to; and a packet of a connection
among so many that are tracked, where a rule asks for connections. With ``--quick`` numbers and
rounds are small: the figures then mean nothing, but all of them are there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from bench import tasks
from bench.announce import FORMS, announcing_ms, hosts, nft_ms
from bench.contestants import BASE, OPEN_PORT, daemon, peer, wired
from bench.figures import Figure
from bench.flood import datagram
from bench.idle import links
from bench.isolation import must_be_isolated
from bench.live import track
from bench.machine import facts
from bench.packets import nanoseconds
from bench.stretches import FRAMES, Stretches
from bench.tasks import LINK, Task
from bench.turns import AbsentError, in_turn, measure, patience
from tests.moments.flood import in_namespace
from tests.netns.site import run

LINKS, QUICK_LINKS = (2, 20, 80), (2, 4)
"""More than a hundred are not tried: Linux 6.18 can hang when a thousand are released at once."""
CONNECTIONS, QUICK_CONNECTIONS = (100, 10_000, 100_000), (10, 100)
FILTERS, QUICK_FILTERS = (1_000, 100_000, 600_000), (100, 1_000)
ROUNDS, QUICK_ROUNDS = 5, 2
WORM = Task("start", ports=[1434])
STATEFUL = """table inet hand {
chain first { type filter hook input priority filter; policy drop;
ct state established,related accept
udp dport 5000 accept
}
}
"""
OPENING = """policy: P
rules:
  - {rule: Nothing, action: block, when: opening, filters: ["*=0"]}
  - {rule: Datagrams, action: permit, when: opening, filters: ["*=0:5000:UDP"]}
"""
OTHERS = {"firewalld": "does nothing for a link that it has no zone for, so that nothing grows"}


def starts(number: int, rounds: int) -> Figure:
    """Seconds from nothing to enforced on all links."""

    def ours(backend: str) -> float:
        with tempfile.TemporaryDirectory() as directory:
            begun = time.perf_counter()
            with daemon(WORM, Path(directory) / "host", backend):
                return time.perf_counter() - begun

    def by_hand() -> float:
        text = tasks.nft(WORM, "prerouting")
        begun = time.perf_counter()
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
        seconds = time.perf_counter() - begun
        run("nft", "delete table inet hand")
        return seconds

    run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "wire1")
    for name in (LINK, "wire1"):
        run("ip", "link", "set", name, "up")
    try:
        with links(max(number - 2, 0)):
            ways: dict[str, Callable[[], float]] = {
                "ipsecd, nftables": partial(ours, "nftables"),
                "ipsecd, XDP": partial(ours, "xdp"),
                BASE: by_hand,
            }
            absent = dict(OTHERS)
            taken = in_turn(ways, rounds, absent)
    finally:
        run("ip", "link", "delete", LINK)
    table = "Start with so many links"
    case = f"{number} links"
    return Figure("scaling", table, case, "s", BASE, taken, absent, number)


def packets(number: int, rounds: int) -> Figure:
    """Nanoseconds of a packet that belongs to one of few connections, beside so many others."""
    few = [datagram(IPv4Address("10.64.0.1") + n % 64, 4000, OPEN_PORT) for n in range(64 * FRAMES)]
    sent, count = Stretches(few), 64
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name, peer(), ExitStack() as stack:
        runs: dict[str, Callable[[], float]] = {}
        for place_number, contestant in enumerate(("ipsecd, nftables", "ipsecd, XDP", BASE)):
            place = stack.enter_context(wired(place_number))
            try:
                with patience(), in_namespace(place.namespace):
                    if contestant == BASE:
                        subprocess.run(["nft", "-f", "-"], input=STATEFUL, text=True, check=True)
                    else:
                        backend = contestant.partition(", ")[2].lower()
                        host = Path(name) / f"host{place_number}"
                        running = stack.enter_context(daemon(WORM, host, backend))
                        running.put(OPENING)
                    track(number)
            except AbsentError as reason:
                absent[contestant] = str(reason)
            else:
                runs[contestant] = partial(nanoseconds, place, sent, count, passes=True)
        taken = in_turn(runs, rounds, absent)
    table = "A packet of a connection, by connections that are tracked"
    case = f"beside {number:,}"
    return Figure("scaling", table, case, "ns", BASE, taken, absent, number)


def containers(number: int, rounds: int) -> Figure:
    """Milliseconds until an announced container is enforced, beside so many filters."""
    ours: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    for contestant in ("ipsecd, nftables", "ipsecd, XDP"):
        backend = contestant.partition(", ")[2].lower()
        with tempfile.TemporaryDirectory() as name:
            others = hosts(number, FORMS["another"])
            try:
                with patience():
                    ours[contestant] = announcing_ms(backend, others, Path(name))
            except AbsentError as reason:
                absent[contestant] = str(reason)
    theirs = {"nft add element": nft_ms(number)}
    values = {each: list(ms[-rounds:]) for each, ms in (ours | theirs).items()}
    table = "An announced container, until it is enforced"
    case = f"beside {number:,} filters"
    return Figure("scaling", table, case, "ms", "nft add element", values, absent, number)


def steps(quick: bool) -> Iterator[Callable[[], list[Figure]]]:
    """All that is measured, each a step of its own."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    kinds: tuple[tuple[Callable[[int, int], Figure], Sequence[int]], ...] = (
        (packets, QUICK_CONNECTIONS if quick else CONNECTIONS),
        (starts, QUICK_LINKS if quick else LINKS),
        (containers, QUICK_FILTERS if quick else FILTERS),
    )

    def alone(kind: Callable[[int, int], Figure], number: int) -> list[Figure]:
        return [kind(number, rounds)]

    for kind, numbers in kinds:
        for number in numbers:
            yield partial(alone, kind, number)


def main() -> None:
    must_be_isolated()
    measure("scaling", list(steps("--quick" in sys.argv)), facts)


if __name__ == "__main__":
    main()
