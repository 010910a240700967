"""Ways to find an address among a million prefixes: time for a packet, and memory.

All of them hold the same prefixes of 24 lengths and see the same sources, which are random as in a
flood. They run in turn, and the median of many runs by the kernel's own timer counts. The others
do nothing but look the address up; ipsecd also asks whether the packet is for this host, looks for
exemptions, and counts.

Memory is what the kernel states for the maps. For the trie that leaves out inner nodes and what
the allocator rounds up to, so how much the kernel's slabs grew stands in for it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.classify import (
    HOST,
    ME_ADDRESS,
    list_blocked,
    load_trie,
    measure,
    prefix_list,
    random_sources,
    set_sources,
    timed,
)
from bench.isolation import must_be_isolated
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.library import library
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.volatile import Volatile
from tests.frames import frame_of

OBJECT = Path("build/candidates.bpf.o")
BITMAP_BYTES = 1 << 21
CANDIDATES = {
    "LPM trie": ("random_trie", ("prefixes",)),
    "bitmap of /24s, then LPM trie": ("random_bitmap", ("blocks", "prefixes")),
    "bloom filter, then hash": ("random_bloom", ("bloom", "probes")),
    "24 hash probes": ("random_hash", ("probes",)),
}


def bitmap(prefixes: Mapping[int, Iterable[int]]) -> bytes:
    """A bit for each /24 that a prefix reaches into."""
    bits = bytearray(BITMAP_BYTES)
    for length, addresses in prefixes.items():
        blocks = 1 << max(0, 24 - length)
        for address in addresses:
            first = address >> 8
            if blocks >= 8:
                bits[first >> 3 : (first + blocks) >> 3] = b"\xff" * (blocks >> 3)
            else:
                bits[first >> 3] |= (1 << blocks) - 1 << (first & 7)
    return bytes(bits)


def load_bloom(descriptor: int, prefixes: Mapping[int, Iterable[int]]) -> None:
    """Put every prefix into the bloom filter, which takes them one by one, without a key."""
    update = library().calls.bpf_map_update_elem
    for length, addresses in prefixes.items():
        head = struct.pack("=I", length)
        for address in addresses:
            done = update(descriptor, None, head + address.to_bytes(4, "big"), libbpf.BPF_ANY)
            assert done == 0


def memory(descriptor: int) -> float:
    """MiB of kernel memory that a map takes."""
    text = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["memlock"]) / (1 << 20)


def slabs() -> float:
    """MiB in slabs that the kernel cannot reclaim."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(":", 1) for line in lines)["SUnreclaim"].split()[0]) / 1024


def memory_of_policy(programs: Programs) -> float:
    """MiB of kernel memory that the compiled policy takes."""
    total = 0.0
    for name in ("state", "images"):
        for slot in libbpf.keys(programs.maps[name], 4):
            number = libbpf.look_up(programs.maps[name], slot, 4)
            if number:
                inner = libbpf.map_by_id(struct.unpack("=I", number)[0])
                total += memory(inner)
                os.close(inner)
    return total


def main() -> None:
    must_be_isolated()
    maps = ("ports", "prefixes", "sources", "blocks", "probes", "bloom")
    programs = Programs(path=OBJECT, more_maps=maps)
    programs.set_host(HOST)
    luck = random.Random(1434)
    prefixes = prefix_list(luck)
    programs.apply(list_blocked(prefixes), Volatile())
    before = slabs()
    load_trie(programs.maps["prefixes"], prefixes)
    trie = slabs() - before
    load_trie(programs.maps["probes"], prefixes)
    load_bloom(programs.maps["bloom"], prefixes)
    with libbpf.map_memory(programs.maps["blocks"], BITMAP_BYTES) as blocks:
        blocks[:] = bitmap(prefixes)
    sizes = {name: memory(programs.maps[name]) for name in maps} | {"prefixes": trie}
    hits, misses = random_sources(luck, prefixes)
    frame = frame_of(source=0, destination=ME_ADDRESS, source_port=4000, port=53)
    ours = memory_of_policy(programs)
    for outcome, addresses, expected in (("miss", misses, 2), ("hit", hits, 1)):
        set_sources(programs.maps["sources"], addresses)
        runs = {
            name: timed(programs.program(program), frame, expected)
            for name, (program, _) in CANDIDATES.items()
        }
        runs["ipsecd"] = timed(programs.program("random_ipsecd"), frame, expected)
        rows = measure(runs)
        for name, (_, its_maps) in CANDIDATES.items():
            theirs = sum(sizes[its_map] for its_map in its_maps)
            print(
                f"{outcome:5} {name:30} {rows[name]:6.0f} ns {theirs:5.0f} MiB"
                f"   ipsecd {rows['ipsecd']:5.0f} ns {ours:4.0f} MiB"
                f"   ratio {rows['ipsecd'] / rows[name]:.2f}"
            )


if __name__ == "__main__":
    main()
