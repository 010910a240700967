"""What a packet costs by floods: rules of several sizes, hit and miss, beside other firewalls.

Every contestant is in force in a namespace of its own, behind a wire of its own. One core sends
frames over the wires in turn, and is what receives them (`bench.flood`). What passes is
counted where it reaches UDP, so that it is seen in every round that each drops what it has to, and
nothing else. With ``--quick`` sizes and rounds are small: the figures then mean nothing, but all of
them are there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contestants import (
    BASE,
    CONTESTANTS,
    OPEN_PORT,
    Place,
    in_force,
    peer,
)
from bench.figures import FLOOR, NO_RULES, Figure
from bench.flood import datagram, seconds_a_frame
from bench.isolation import must_be_isolated
from bench.lists import texts
from bench.machine import facts
from bench.stretches import FRAMES, Stretches
from bench.tasks import Task
from bench.turns import AbsentError, in_turn, measure, patience

TABLE = "A packet that {} in a flood over veth, IPv{}"
IPV6_SOURCES = int(IPv6Address("2001:db8::"))
WORM = 1434


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    frames: int
    ports: int
    mixed: int
    addresses: int
    prefixes: int


WHOLE = Sizes(9, 128 * FRAMES, 100, 1000, 100_000, 1_000_000)
QUICK = Sizes(2, 4 * FRAMES, 4, 30, 100, 100)


@dataclass(frozen=True)
class Flood:
    """A task, and what is sent to whom it is given."""

    task: Task
    hit: Sequence[tuple[IPv4Address | IPv6Address, int]]
    """Sources and destination ports of what must be dropped."""
    miss: Sequence[tuple[IPv4Address | IPv6Address, int]]


def drawn4(chance: random.Random) -> IPv4Address:
    """A source that is not the host's own, nor of the network of its link."""
    return IPv4Address(chance.randrange(1 << 24, 120 << 24))


def drawn6(chance: random.Random) -> IPv6Address:
    return IPv6Address(IPV6_SOURCES | chance.getrandbits(64))


def of_ports(name: str, ports: Sequence[int], sizes: Sizes, version: int) -> Flood:
    """Datagrams from everywhere to ports that are blocked, and to one that is not."""
    chance = random.Random(version)
    draw = drawn6 if version == 6 else drawn4
    hit = [(draw(chance), chance.choice(ports)) for _ in range(sizes.frames)]
    miss = [(draw(chance), OPEN_PORT) for _ in range(sizes.frames)]
    return Flood(Task(name, ports=ports), hit, miss)


def mixed(sizes: Sizes) -> Flood:
    """Ports, sources, networks and a source with a port, of each about as many."""
    chance = random.Random(7)
    part = sizes.mixed // 4
    ports = chance.sample(range(10_000, 60_000), part)
    hosts = sorted({int(drawn4(chance)) for _ in range(2 * part)})
    networks = {int(drawn4(chance)) >> 8 << 8 for _ in range(part)}
    alone = [each for each in hosts if each >> 8 << 8 not in networks]
    sources = [str(IPv4Address(each)) for each in alone[:part]]
    pairs = [(str(IPv4Address(each)), OPEN_PORT) for each in alone[-part:]]
    task = Task(
        f"{sizes.mixed:,} mixed filters",
        ports=ports,
        sources=[*sources, *(f"{IPv4Address(each)}/24" for each in sorted(networks))],
        pairs=pairs,
    )
    ways: list[Callable[[], tuple[IPv4Address, int]]] = [
        lambda: (drawn4(chance), chance.choice(ports)),
        lambda: (IPv4Address(chance.choice(sources)), OPEN_PORT),
        lambda: (IPv4Address(chance.choice(sorted(networks)) + chance.randrange(256)), OPEN_PORT),
        lambda: (IPv4Address(chance.choice(pairs)[0]), OPEN_PORT),
    ]
    hit = [ways[n % len(ways)]() for n in range(sizes.frames)]
    taken = {*alone, *networks}
    clean = (drawn4(chance) for _ in range(2 * sizes.frames))
    miss = [(each, OPEN_PORT) for each in clean if not taken & {int(each), int(each) >> 8 << 8}]
    return Flood(task, hit, miss[: sizes.frames])


def of_addresses(sizes: Sizes, version: int) -> Flood:
    """Sources that are listed, and others."""
    chance = random.Random(version)
    draw = drawn6 if version == 6 else drawn4
    listed = sorted({draw(chance) for _ in range(sizes.addresses)})
    taken = set(listed)
    hit = [(chance.choice(listed), OPEN_PORT) for _ in range(sizes.frames)]
    others = (draw(chance) for _ in range(2 * sizes.frames))
    miss = [(each, OPEN_PORT) for each in others if each not in taken][: sizes.frames]
    return Flood(Task(f"{sizes.addresses:,} addresses", sources=list(map(str, listed))), hit, miss)


def of_prefixes(sizes: Sizes) -> Flood:
    """Sources in prefixes of 24 lengths, and others; no prefix lies in another."""
    chance = random.Random(24)
    lengths = range(9, 33)
    weights = [1.6 ** (length - 9) for length in lengths]
    by_length: dict[int, set[int]] = {length: set() for length in lengths}
    for length in chance.choices(lengths, weights, k=sizes.prefixes):
        by_length[length].add(int(drawn4(chance)) >> (32 - length) << (32 - length))
    sample = [(a, n) for n, addresses in by_length.items() for a in sorted(addresses)]
    hit = [
        (IPv4Address(address | chance.getrandbits(32 - length)), OPEN_PORT)
        for address, length in chance.choices(sample, k=sizes.frames)
    ]
    others = (drawn4(chance) for _ in range(4 * sizes.frames))
    miss = [
        (each, OPEN_PORT)
        for each in others
        if not any(int(each) >> (32 - n) << (32 - n) in by_length[n] for n in lengths)
    ]
    task = Task(f"{sizes.prefixes:,} prefixes of 24 lengths", sources=texts(by_length))
    return Flood(task, hit, miss[: sizes.frames])


def floods(sizes: Sizes) -> list[Callable[[], Flood]]:
    """All, each made when it is its turn."""
    ports = range(WORM, WORM + sizes.ports)
    many = f"{sizes.ports} ports"
    return [
        partial(of_ports, "the rules of KB 813878", [WORM], sizes, 4),
        partial(of_ports, "the rules of KB 813878", [WORM], sizes, 6),
        partial(of_ports, many, ports, sizes, 4),
        partial(of_ports, many, ports, sizes, 6),
        partial(mixed, sizes),
        partial(of_addresses, sizes, 4),
        partial(of_addresses, sizes, 6),
        partial(of_prefixes, sizes),
    ]


def nanoseconds(place: Place, sent: Stretches, count: int, *, passes: bool) -> float:
    """What a frame costs in one flood, all of which has to pass, or nothing."""
    before = place.passed()
    seconds = seconds_a_frame(sent, count, place.received, place.link)
    passed = place.passed() - before
    number = count * FRAMES
    assert passed > 0.98 * number if passes else passed == 0, (place, passed, number)
    return seconds * 1e9


def compare(flood: Flood, sizes: Sizes) -> list[Figure]:
    """The figures of one task: what is dropped, and what passes."""
    task = flood.task
    version = flood.hit[0][0].version
    absent: dict[str, str] = {}
    places: dict[str, Place] = {}
    with TemporaryDirectory() as directory, peer(), ExitStack() as stack:
        for number, name in enumerate(CONTESTANTS):
            try:
                with patience():
                    manager = in_force(name, number, task, Path(directory))
                    places[name] = stack.enter_context(manager)
            except AbsentError as reason:
                absent[name] = str(reason)
        figures = []
        for outcome, packets in (("is dropped", flood.hit), ("passes", flood.miss)):
            passes = outcome == "passes"
            frames = [datagram(a, 1024 + n * 7 % 60000, p) for n, (a, p) in enumerate(packets)]
            sent, count = Stretches(frames), len(frames) // FRAMES
            missing = dict(absent)
            runs: dict[str, Callable[[], float]] = {}
            for name, place in places.items():
                if passes and name == FLOOR:
                    missing[name] = "lets nothing pass"
                    continue
                if not passes and name == NO_RULES:
                    missing[name] = "drops nothing"
                    continue
                runs[name] = partial(nanoseconds, place, sent, count, passes=passes)
            taken = in_turn(runs, sizes.rounds, missing)
            figures.append(
                Figure(
                    part="packets",
                    table=TABLE.format(outcome, version),
                    case=task.name,
                    unit="ns",
                    base=BASE,
                    rounds=taken,
                    absent=missing,
                    size=len(task.sources) or None,
                )
            )
    return figures


def compared(make: Callable[[], Flood], sizes: Sizes) -> list[Figure]:
    """The same, of a flood that is made when it is its turn."""
    return compare(make(), sizes)


def main() -> None:
    must_be_isolated()
    sizes = QUICK if "--quick" in sys.argv else WHOLE
    steps = [partial(compared, make, sizes) for make in floods(sizes)]
    measure("packets", steps, facts)


if __name__ == "__main__":
    main()
