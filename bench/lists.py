"""Seconds to put a list of a million entries in force and to change it, beside nft and ipset.

Addresses, and prefixes of 24 lengths, which nft and ipset get without those that lie in others. The
list goes to the engine as the parser of files hands it over, and nft and ipset read their own
files: ``bench.list_files`` compares them from the file on.
Beside the seconds of a change stands the longest that it kept the engine from anything else, a ban
for instance.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from bench.classify import prefix_list
from bench.isolation import must_be_isolated
from bench.load import disjoint
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.model.packing import changed
from ipsecd.model.values import Action, Policy, Rule

T = TypeVar("T")
ENTRIES = 1_000_000
ADDITIONS = 301
BPFFS = Path("/sys/fs/bpf/ipsecd-bench")


def addresses(chance: random.Random) -> dict[int, set[int]]:
    """A million addresses."""
    drawn: set[int] = set()
    while len(drawn) < ENTRIES:
        drawn.add(chance.randrange(1 << 24, 224 << 24))
    return {32: drawn}


def packed(by_length: Mapping[int, set[int]]) -> AddressList:
    """The list that has these entries."""
    return AddressList(
        {
            Form(Family.IPV4, length): b"".join(
                address.to_bytes(4, "big") for address in sorted(addresses)
            )
            for length, addresses in by_length.items()
        }
    )


def with_change(members: AddressList, remove: int, add: int, chance: random.Random) -> AddressList:
    """The list with other entries of the longest of its lengths."""
    form = max(members.entries)
    own = members.entries[form]
    present = {own[at : at + 4] for at in range(0, len(own), 4)}
    present -= set(chance.sample(sorted(present), remove))
    present |= {chance.getrandbits(32).to_bytes(4, "big") for _ in range(add)}
    return AddressList({**members.entries, form: b"".join(sorted(present))})


class Held:
    """A line that notes the longest piece of work."""

    def __init__(self) -> None:
        self.longest = 0.0

    def __call__(self, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        try:
            return work()
        finally:
            self.longest = max(self.longest, time.perf_counter() - begun)


@contextmanager
def engine(backend: str) -> Iterator[tuple[Engine, Held]]:
    """An engine with a policy that blocks a list."""
    with TemporaryDirectory() as directory:
        root = Path(directory)
        directories = Directories(root / "etc", root / "lib", root / "run", BPFFS)
        made = Engine(Config(backend=backend), directories)
        made.start()
        line = Held()
        made.use_line(line)
        rule = Rule("drop", (parse_filter("@drop=0"),), Action.BLOCK)
        made.list_changes.change({"drop": listed([Network(Family.IPV4, 0x01010101, 32)])})
        made.change(put=[Policy("P", (rule,))], assign="P")
        try:
            yield made, line
        finally:
            made.stop()
            made.close()


def ours(backend: str, members: AddressList) -> None:
    """Print what the engine takes for each change."""
    chance = random.Random(backend)
    with engine(backend) as (made, line):
        state = members
        for what, remove, add in (
            ("all", 0, 0),
            ("one more", 0, 1),
            ("one less", 1, 0),
            ("1,000 others", 1000, 1000),
        ):
            if remove or add:
                state = with_change(state, remove, add, chance)
            line.longest = 0.0
            begun = time.perf_counter()
            made.list_changes.change({"drop": state})
            seconds = time.perf_counter() - begun
            failure = made.backend.failures
            print(f"  ipsecd, {backend:9} {what:13} {seconds:8.3f} s, held {line.longest:.3f} s")
            assert not failure, failure


def additions(backend: str, count: int) -> None:
    """Print what the engine takes for one entry more, in the middle of many, as a command adds it.

    Nothing is written to disk here.
    """
    chance = random.Random(backend)
    members = packed({32: {chance.randrange(1 << 24, 224 << 24) for _ in range(count)}})
    seconds = []
    with engine(backend) as (made, _):
        made.list_changes.change({"drop": members})
        for _ in range(ADDITIONS):
            network = Network(Family.IPV4, chance.randrange(1 << 24, 224 << 24), 32)
            begun = time.perf_counter()
            members = changed(members, AddressList(), listed([network]))
            made.list_changes.change({"drop": members})
            seconds.append(time.perf_counter() - begun)
    median = sorted(seconds)[len(seconds) // 2]
    print(f"  ipsecd, {backend:9} one of {count:9,} {median * 1e6:8.0f} µs in the median")


def texts(by_length: Mapping[int, set[int]]) -> list[str]:
    """The entries that lie in no other, as nft and ipset write them."""
    return [text(address, length) for address, length in disjoint(dict(by_length))]


def text(address: int, length: int) -> str:
    """An entry as all of them write it."""
    host = f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"
    return host if length == 32 else f"{host}/{length}"


def theirs(lines: list[str], directory: Path, *, prefixes: bool) -> None:
    """Print what the others take for the same: all of it, and one entry more."""
    flags = "flags interval;" if prefixes else f"size {2 * ENTRIES};"
    rules = directory / "rules"
    rules.write_text(
        f"table inet bench {{\nset listed {{ type ipv4_addr; {flags}\nelements = {{"
        + ",\n".join(lines)
        + "} }\n}\n",
        encoding="ascii",
    )
    timed("nft -f", "all", ["nft", "-f", str(rules)])
    timed("nft", "one more", ["nft", "add element inet bench listed { 0.0.0.1 }"])
    subprocess.run(["nft", "delete table inet bench"], check=False)
    if shutil.which("ipset") is None:
        print("  ipset is not installed here")
        return
    restored = restored_by_ipset(lines, directory, prefixes=prefixes)
    timed("ipset restore", "all", ["ipset", "restore", "-file", str(restored)])
    timed("ipset", "one more", ["ipset", "add", "listed", "0.0.0.1"])
    subprocess.run(["ipset", "destroy", "listed"], check=True)


def restored_by_ipset(lines: Sequence[str], directory: Path, *, prefixes: bool) -> Path:
    """The file that ``ipset restore`` reads, which makes the set ``listed`` of all entries."""
    kind = "hash:net" if prefixes else "hash:ip"
    restored = directory / "restored"
    restored.write_text(
        f"create listed {kind} maxelem {2 * ENTRIES}\n"
        + "".join(f"add listed {line}\n" for line in lines),
        encoding="ascii",
    )
    return restored


def timed(name: str, what: str, words: list[str]) -> None:
    begun = time.perf_counter()
    done = subprocess.run(words, check=False, capture_output=True)
    seconds = time.perf_counter() - begun
    outcome = "" if done.returncode == 0 else f" (failed: {done.stderr[:80]!r})"
    print(f"  {name:17} {what:13} {seconds:8.3f} s{outcome}")


def main() -> None:
    must_be_isolated()
    chance = random.Random(1434)
    backends = sys.argv[1:] or ["nftables", "xdp"]
    for backend in backends:
        for count in (10, ENTRIES):
            additions(backend, count)
    for title, drawn in (("addresses", addresses), ("prefixes of 24 lengths", prefix_list)):
        by_length = drawn(chance)
        members = packed(by_length)
        print(f"{len(members):,} {title}")
        for run in (partial(ours, backend, members) for backend in backends):
            run()
        with TemporaryDirectory() as directory:
            theirs(texts(by_length), Path(directory), prefixes=len(by_length) > 1)


if __name__ == "__main__":
    main()
