"""Seconds and memory from the file of a million entries until all of them are in force.

``ipsecctl list replace`` has a daemon that runs read the file, keep it, and put it in force.
Beside it in the same run ``nft -f`` and ``ipset restore`` read files of their own, which get of
prefixes those that lie in no other. Beside the seconds that pass stands the processor time of all
processes, which other work on the machine leaves alone, and the memory: what the daemon has more
than before, with the list and at most, and the most that the others have. Run it with ``make
bench``, which has Debian's ipset.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.classify import prefix_list
from bench.isolation import must_be_isolated
from bench.lists import ENTRIES, addresses, restored_by_ipset, text, texts
from bench.start import POLICY, add_link, memory_mb, processor_s
from tests.netns.site import Daemon

RUNS = 3


@dataclass(frozen=True)
class Cost:
    """What it takes: seconds that pass, seconds of a processor, MB of memory."""

    seconds: float
    processor_s: float
    memory_mb: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.2f} s, {self.processor_s:5.2f} s of a processor, "
            f"at most {self.memory_mb:4.0f} MB"
        )


def ours(backend: str, lines: Sequence[str], directory: Path) -> Cost:
    """What the daemon and the command take."""
    host = directory / f"ipsecd-{backend}"
    for name in ("etc/lists", "etc/policies"):
        (host / name).mkdir(parents=True)
    file = directory / "file"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    (host / "etc/lists/drop").write_text("192.0.2.1\n", encoding="ascii")
    (host / "etc/policies/P.yaml").write_text(POLICY, encoding="ascii")
    (host / "etc/assigned").symlink_to("policies/P.yaml")
    daemon = Daemon(host, backend)
    daemon.start()
    assert daemon.pid
    try:
        (before, _), processor = memory_mb(daemon.pid), processor_s(daemon.pid)
        words = [sys.executable, "-m", "ipsecctl", "list", "replace", "drop", str(file)]
        command = run(words, daemon.environment)
        now, most = memory_mb(daemon.pid)
        taken = command.processor_s + processor_s(daemon.pid) - processor
        print(f"  ipsecd, {backend:9} {before} MB, with the list {now} MB, {most} MB at most")
        return Cost(command.seconds, taken, most - before)
    finally:
        daemon.end()
        shutil.rmtree(host)


def run(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Cost:
    """What a command takes, which has to succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    assert status == 0, words
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def nft(lines: Sequence[str], directory: Path, *, prefixes: bool) -> Cost:
    """What ``nft -f`` takes."""
    rules = directory / "rules"
    flags = "flags interval" if prefixes else f"size {2 * ENTRIES}"
    rules.write_text(
        f"table inet bench {{\nset listed {{ type ipv4_addr; {flags};\nelements = {{"
        + ",\n".join(lines)
        + "} }\nchain c { type filter hook prerouting priority -301; ip saddr @listed drop\n}\n}\n",
        encoding="ascii",
    )
    cost = run(["nft", "-f", str(rules)])
    subprocess.run(["nft", "delete table inet bench"], check=True)
    return cost


def ipset(lines: Sequence[str], directory: Path, *, prefixes: bool) -> Cost:
    """What ``ipset restore`` takes."""
    restored = restored_by_ipset(lines, directory, prefixes=prefixes)
    cost = run(["ipset", "restore", "-file", str(restored)])
    subprocess.run(["ipset", "destroy", "listed"], check=True)
    return cost


def compare(by_length: Mapping[int, set[int]], backends: Sequence[str], directory: Path) -> None:
    """Print what each takes, in the median of some rounds, and its part of what nft takes."""
    prefixes = len(by_length) > 1
    every = [text(address, length) for length, drawn in by_length.items() for address in drawn]
    others = texts(by_length)
    # Any order is the same to nft and ipset where there are addresses, and of prefixes they get the
    # one that suits them.
    random.Random(1434).shuffle(every)
    costs: dict[str, list[Cost]] = {}
    for _ in range(RUNS):
        for backend in backends:
            costs.setdefault(f"ipsecd, {backend}", []).append(ours(backend, every, directory))
        costs.setdefault("nft -f", []).append(nft(others, directory, prefixes=prefixes))
        if shutil.which("ipset"):
            costs.setdefault("ipset restore", []).append(
                ipset(others, directory, prefixes=prefixes)
            )
    base = middle(costs["nft -f"])
    for name, each in costs.items():
        cost = middle(each)
        print(
            f"  {name:17} {cost}; of nft's: {cost.seconds / base.seconds:.2f} of the time, "
            f"{cost.processor_s / base.processor_s:.2f} of the processor, "
            f"{cost.memory_mb / base.memory_mb:.2f} of the memory"
        )


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each."""
    return Cost(
        median(cost.seconds for cost in costs),
        median(cost.processor_s for cost in costs),
        median(cost.memory_mb for cost in costs),
    )


def main() -> None:
    must_be_isolated()
    chance = random.Random(1434)
    add_link()
    backends = sys.argv[1:] or ["nftables", "xdp"]
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for title, drawn in (("addresses", addresses), ("prefixes of 24 lengths", prefix_list)):
        by_length = drawn(chance)
        print(f"{sum(map(len, by_length.values())):,} {title}")
        with TemporaryDirectory() as directory:
            compare(by_length, backends, Path(directory))


if __name__ == "__main__":
    main()
