"""Owns how entries of dynamic rules come and go at one moment; must not know maps, nor a state.

What comes is written before, and counts from the generation on that begins at that moment; what
goes counts until then, and is erased after. What is renewed gets its other deadline in place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ipsecd.backend.xdp import abi
from ipsecd.compiler.volatile import Delta, Entry

Write = Callable[[Entry, int, int], None]
"""Writes an entry, with the generations from and until which it counts."""


def exchange(
    delta: Delta,
    generation: int,
    write: Write,
    begin: Callable[[], None],
    erase: Callable[[Entry], None],
) -> None:
    """Carry out `delta` when `begin` has the `generation` begin; raises, and then it is undone."""
    renewed = delta.renewed
    gone = [entry for entry in delta.removed if (entry.table, entry.key) not in renewed]
    as_before = [entry for entry in delta.removed if (entry.table, entry.key) in renewed]
    written: list[Entry] = []
    try:
        for entry in delta.added:
            in_place = (entry.table, entry.key) in renewed
            write(entry, 0 if in_place else generation, abi.FOREVER)
            if not in_place:
                written.append(entry)
        for entry in gone:
            as_before.append(entry)
            write(entry, 0, generation)
        begin()
    except BaseException:
        for entry in written:
            erase(entry)
        for entry in as_before:
            write(entry, 0, abi.FOREVER)
        raise
    # They no longer count. An entry that cannot be erased stays without an effect.
    with suppress(OSError):
        for entry in gone:
            erase(entry)
