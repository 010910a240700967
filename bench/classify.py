"""What one packet costs in the programs, beside the least that a filter can do.

Every figure is the median of many runs of the kernel's own timer over a program (the test run
of bpf(2)), interleaved in one process, in nanoseconds for a packet.
"""

from __future__ import annotations

import random
import statistics
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench.figures import FLOOR, Figure, keep
from bench.isolation import must_be_isolated
from bench.machine import facts
from bench.turns import in_turn
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.fields import ME
from ipsecd.model.packets import Host
from ipsecd.model.values import Action, InForce, Origin
from tests.frames import frame_of

OBJECT = Path("build/floor.bpf.o")
ME_ADDRESS = 0x0A090001
HOST = Host(frozenset({(Family.IPV4, ME_ADDRESS), (Family.IPV4, 0x7F000001)}))
NAMES = tuple(exemption.name for exemption in ESSENTIALS)
ROUNDS, REPEAT = 15, 200_000
TEST_RUNS = "A packet in programs alone, by test runs"
HASH, TRIE, OURS = "one look-up in a BPF hash", "one look-up in an LPM trie", "ipsecd, XDP"
NO_PROGRAM = dict.fromkeys(
    ("nft by hand", "iptables and ipset", "ufw", "firewalld"), "is no program that can be run alone"
)
LENGTHS = range(9, 33)
PREFIXES = 1_000_000
SOURCES = 1 << 20


def ports_blocked(count: int) -> Classifier:
    """A policy that blocks so many UDP ports."""
    return compile_filters(
        [
            InForce(
                Origin("static", "P", f"r{port}"), parse_filter(f"*=0:{port}:UDP"), Action.BLOCK
            )
            for port in range(1434, 1434 + count)
        ],
        NAMES,
    )


def prefix_list(luck: random.Random) -> dict[int, set[int]]:
    """A million prefixes of 24 lengths: few short ones, as lists have them.

    Each length is drawn 1.6 times as often as the one before; together they cover a few percent
    of the address space.
    """
    taken: dict[int, set[int]] = {length: set() for length in LENGTHS}
    weights = [1.6 ** (length - 9) for length in LENGTHS]
    total = 0
    while total < PREFIXES:
        for length in luck.choices(LENGTHS, weights, k=PREFIXES - total):
            address = luck.randrange(1 << 24, 224 << 24) >> (32 - length) << (32 - length)
            taken[length].add(address)
        total = sum(map(len, taken.values()))
    return taken


def list_blocked(prefixes: Mapping[int, Iterable[int]]) -> Classifier:
    """A policy that blocks what comes from any of the prefixes."""
    origin = Origin("static", "P", "list")
    tables: list[Table] = []
    for length, addresses in prefixes.items():
        table = TableId.of(Family.IPV4, False, Action.BLOCK, source=length, destination=ME)
        keys = array("I", sorted(addresses))
        if sys.byteorder == "little":
            keys.byteswap()
        tables.append(Table(table, keys.tobytes(), (origin,)))
    tables.sort(key=lambda table: table.id.order)
    return Classifier(tuple(tables), NAMES)


def load_trie(descriptor: int, prefixes: dict[int, set[int]]) -> None:
    """Put the same list into the kernel's own structure."""
    keys = [
        struct.pack("=I", length) + address.to_bytes(4, "big")
        for length, addresses in prefixes.items()
        for address in addresses
    ]
    for first in range(0, len(keys), 50_000):
        part = keys[first : first + 50_000]
        libbpf.update_many(descriptor, b"".join(part), bytes(8 * len(part)), len(part))


def random_sources(
    luck: random.Random, prefixes: Mapping[int, set[int]]
) -> tuple[list[int], list[int]]:
    """Addresses inside the prefixes, each of which is as likely, and addresses outside all."""
    sample = [(a, n) for n, addresses in prefixes.items() for a in addresses]
    hits = [
        address | luck.getrandbits(32 - length)
        for address, length in luck.choices(sample, k=SOURCES)
    ]
    misses: list[int] = []
    while len(misses) < SOURCES:
        address = luck.randrange(1 << 24, 224 << 24)
        if not any(address >> (32 - n) << (32 - n) in prefixes[n] for n in LENGTHS):
            misses.append(address)
    return hits, misses


def set_sources(descriptor: int, addresses: Iterable[int]) -> None:
    """Write the sources that the programs named `random_` take, one for each run."""
    with libbpf.map_memory(descriptor, 8 * SOURCES) as memory:
        memory[:] = struct.pack(f"={SOURCES}Q", *map(_swapped, addresses))


def measure(runs: dict[str, Callable[[], int]]) -> dict[str, float]:
    """The median of what each of `runs` gives; they take turns."""
    taken = in_turn(runs, ROUNDS, {})
    return {name: statistics.median(values) for name, values in taken.items()}


def of_test_runs(case: str, base: str, runs: Mapping[str, Callable[[], int]]) -> Figure:
    """The figure of what programs take in test runs."""
    absent = dict(NO_PROGRAM)
    taken = in_turn(runs, ROUNDS, absent)
    return Figure("packets", TEST_RUNS, case, "ns", base, taken, absent)


def timed(program: int, frame: bytes, expected: int) -> Callable[[], int]:
    """A run that gives nanoseconds for one packet; the verdict must be the expected one."""

    def run() -> int:
        verdict, nanoseconds = libbpf.run_program(program, frame, repeat=REPEAT)
        assert verdict == expected, verdict
        return nanoseconds

    return run


def few_rules(programs: Programs) -> list[Figure]:
    """Measure a packet that is dropped, and a packet that ten rules do not match."""
    hit = frame_of(source=0xC0000201, destination=ME_ADDRESS, source_port=4000, port=1434)
    miss = frame_of(source=0xC0000201, destination=ME_ADDRESS, source_port=4000, port=53)
    libbpf.update(
        programs.maps["ports"], struct.pack("=I", 17) + struct.pack(">HH", 1434, 0), bytes(8)
    )
    judge = programs.program("receive_lan")
    single_look_up = programs.program("one_hash")
    floor = timed(programs.program("drop_at_once"), hit, 1)
    figures = []
    for case, rules, frame, verdict, limit in (
        ("dropped by its port, one rule", 1, hit, 1, 1.5),
        ("dropped by its port, ten rules", 10, hit, 1, 1.5),
        ("passed by ten rules for ports", 10, miss, 2, 2.5),
    ):
        programs.apply(ports_blocked(rules), Volatile())
        runs = {
            OURS: timed(judge, frame, verdict),
            HASH: timed(single_look_up, frame, verdict),
            FLOOR: floor,
        }
        figures.append(shown(of_test_runs(case, HASH, runs), limit))
    return figures


def shown(figure: Figure, limit: float) -> Figure:
    """Print a figure of ours beside the base, and the most that it may be."""
    ours, base = figure.middle(OURS), figure.middle(figure.base)
    print(
        f"{figure.case:34} {ours:6.0f} ns   {figure.base} {base:5.0f} ns   "
        f"ratio {ours / base:.2f} (at most {limit:.2f}); floor {figure.middle(FLOOR):.0f} ns"
    )
    return figure


def long_list(programs: Programs) -> list[Figure]:
    """Measure random sources against a million prefixes of 24 lengths."""
    luck = random.Random(1434)
    prefixes = prefix_list(luck)
    programs.apply(list_blocked(prefixes), Volatile())
    load_trie(programs.maps["prefixes"], prefixes)
    hits, misses = random_sources(luck, prefixes)
    frame = frame_of(source=0, destination=ME_ADDRESS, source_port=4000, port=53)
    figures = []
    for outcome, addresses, expected, limit in (
        ("passed", misses, 2, 1 / 3),
        ("dropped", hits, 1, 1 / 2),
    ):
        set_sources(programs.maps["sources"], addresses)
        runs = {
            OURS: timed(programs.program("random_ipsecd"), frame, expected),
            TRIE: timed(programs.program("random_trie"), frame, expected),
            FLOOR: timed(programs.program("random_floor"), frame, 1),
        }
        case = f"{outcome} by a million prefixes"
        figures.append(shown(of_test_runs(case, TRIE, runs), limit))
    return figures


def _swapped(address: int) -> int:
    return int.from_bytes(address.to_bytes(4, "big"), sys.byteorder)


def main() -> None:
    must_be_isolated()
    programs = Programs(path=OBJECT, more_maps=("ports", "prefixes", "sources"))
    programs.set_host(HOST)
    keep("classify", [*few_rules(programs), *long_list(programs)], facts())


if __name__ == "__main__":
    main()
