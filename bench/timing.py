"""Owns how long actions take one by one, and ``nft add element`` among them.

That is what a user would use instead of a dynamic rule or an announced container, so more than
one measurement sets it beside ipsecd. Must not know ipsecd.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial


def seconds_each(actions: Iterable[Callable[[], object]]) -> list[float]:
    """The seconds that each action takes; what `actions` does between them is not counted."""
    durations = []
    for action in actions:
        begun = time.perf_counter()
        action()
        durations.append(time.perf_counter() - begun)
    return durations


def host_address(number: int) -> str:
    """The address in 10.0.0.0/8 that has this number, less than 2 ** 24."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def nft_add_seconds(size: int, added: Sequence[str], flags: str = "") -> list[float]:
    """The seconds of one ``nft add element`` process for each address that is `added`.

    They go to a set of `size` addresses that is made for this, with `flags` as nft(8) writes them.
    """
    elements = ",".join(map(host_address, range(size)))
    table = (
        f"add table ip other\nadd set ip other s {{ type ipv4_addr; size 2000000; {flags} }}\n"
        f"add element ip other s {{ {elements} }}\n"
    )
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
    commands = (["nft", f"add element ip other s {{ {address} }}"] for address in added)
    durations = seconds_each(partial(subprocess.run, command, check=True) for command in commands)
    subprocess.run(["nft", "delete table ip other"], check=True)
    return durations
