"""What one dynamic rule costs the daemon, with ten and with 100,000 others present.

Beside it, in the same run, what a user would use instead: ``nft add element`` on a set of the
same size. Run it with ``make bench``; it needs a network namespace of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule

ROUNDS = 400


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def rule(number: int) -> DynamicRule:
    return DynamicRule(f"r{number}", (parse_filter(f"{address(number)}=0"),), Action.BLOCK)


def adds_us(engine: Engine, start: int) -> list[float]:
    """Microseconds for each of ``ROUNDS`` adds; each rule is removed again."""
    found = []
    for number in range(start, start + ROUNDS):
        new = rule(number)
        begun = time.perf_counter()
        engine.add_dynamic(new)
        found.append((time.perf_counter() - begun) * 1e6)
        engine.remove_dynamic([new])
    return found


def nft_us(size: int) -> list[float]:
    """Microseconds of one ``nft add element`` process on a set of `size` addresses."""
    elements = ",".join(map(address, range(size)))
    definition = "type ipv4_addr; size 2000000; flags timeout;"
    table = (
        f"add table ip other\nadd set ip other s {{ {definition} }}\n"
        f"add element ip other s {{ {elements} }}\n"
    )
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
    found = []
    for n in range(30):
        begun = time.perf_counter()
        subprocess.run(["nft", f"add element ip other s {{ 11.0.0.{n} }}"], check=True)
        found.append((time.perf_counter() - begun) * 1e6)
    subprocess.run(["nft", "delete table ip other"], check=True)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        engine = Engine(Config(), Directories(path / "etc", path / "lib", path / "run"))
        engine.start()
        results = []
        for start, size in ((0, 10), (10, 100_000)):
            for number in range(start, size):
                engine.add_dynamic(rule(number))
            results.append((size, adds_us(engine, 1 << 20), nft_us(size)))
        engine.stop()
        engine.close()
    print("one dynamic add, median microseconds")
    for size, ours, theirs in results:
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(
            f"  {size:>7,} present: ipsecd {mine:8.0f}   nft add element {other:8.0f}   "
            f"({other / mine:.0f} times)"
        )
    few, many = (statistics.median(ours) for _, ours, _ in results)
    print(f"  ratio of 100,000 to 10: {many / few:.2f} (promised: at most 2)")


main()
