"""What one dynamic rule costs the daemon, with ten and with 100,000 others present.

Beside it, in the same run, what a user would use instead: ``nft add element`` on a set of the
same size. Run it with ``make bench``; it needs a network namespace of its own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench.isolation import must_be_isolated
from bench.timing import host_address, nft_add_seconds, seconds_each
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule

ROUNDS = 400


def rule(number: int) -> DynamicRule:
    return DynamicRule(f"r{number}", (parse_filter(f"{host_address(number)}=0"),), Action.BLOCK)


def adds_us(engine: Engine, start: int) -> list[float]:
    """Microseconds for each of ``ROUNDS`` adds; each rule is removed again, uncounted."""

    def adds() -> Iterator[Callable[[], object]]:
        for number in range(start, start + ROUNDS):
            new = rule(number)
            yield partial(engine.add_dynamic, new)
            engine.change_dynamic([], [new.name])

    return [seconds * 1e6 for seconds in seconds_each(adds())]


def nft_adds_us(size: int) -> list[float]:
    """Microseconds of one ``nft add element`` process on a set of `size` addresses."""
    added = [f"11.0.0.{n}" for n in range(30)]
    return [seconds * 1e6 for seconds in nft_add_seconds(size, added, "flags timeout;")]


def main() -> None:
    must_be_isolated()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        engine = Engine(Config(), Directories(path / "etc", path / "lib", path / "run"))
        engine.start()
        results = []
        for start, size in ((0, 10), (10, 100_000)):
            for number in range(start, size):
                engine.add_dynamic(rule(number))
            results.append((size, adds_us(engine, 1 << 20), nft_adds_us(size)))
        engine.stop()
        engine.close()
    print("one dynamic add, median microseconds")
    for size, ours, theirs in results:
        ipsecd_us, nft_us = statistics.median(ours), statistics.median(theirs)
        print(
            f"  {size:>7,} present: ipsecd {ipsecd_us:8.0f}   nft add element {nft_us:8.0f}   "
            f"({nft_us / ipsecd_us:.0f} times)"
        )
    few, many = (statistics.median(ours) for _, ours, _ in results)
    print(f"  ratio of 100,000 to 10: {many / few:.2f} (promised: at most 2)")


if __name__ == "__main__":
    main()
