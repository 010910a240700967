"""Owns finding the few tables among many ranges of ports that the port of a packet can be in.

A rule that compares a packet's port with a range takes the kernel some 30 ns, so a thousand of them
one after the other are too many. They stand in small chains instead, each for a stretch of ports,
and a few comparisons lead to the one that has the packet's. Must not know verdicts. Invariants:

1. A chain has the rules of all tables whose range meets its stretch, in the order of their rank;
   each of them compares the port itself. So it makes no difference which chain a packet comes to,
   as long as its port is in the stretch.
2. A packet that no rule of its chain decides goes on behind the rule that led it here.
3. No more than ``LEVELS`` chains follow each other: the kernel takes only so many in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ipsecd.model.values import MAX_PORT

FEW = 16
"""So many ranges, or fewer, are compared one after the other."""
IN_A_CHAIN = 4
"""How many tables a chain has that the port leads to, if they do not overlap too much."""
LEVELS = 4
LEAST_WAYS = 4
"""Out of how many chains one comparison after the other chooses, if there are few."""
MOST_COPIES = 4
"""How often a table may be written on the average."""


class Stretch(NamedTuple):
    """The last of the ports that a chain is for, and the numbers of the tables in it."""

    last: int
    numbers: tuple[int, ...]


def stretches(ranges: Sequence[tuple[int, int]]) -> list[Stretch]:
    """All ports, in order, cut so that few of the `ranges` meet each stretch.

    The result is empty if there are few ranges, or if they overlap too much for that.
    """
    if len(ranges) <= FEW:
        return []
    begins: dict[int, list[int]] = {0: []}
    ends: dict[int, list[int]] = {}
    for number, (first, last) in enumerate(ranges):
        begins.setdefault(first, []).append(number)
        ends.setdefault(last + 1, []).append(number)
    cuts = sorted({*begins, *ends, MAX_PORT + 1} - {0})
    open_here: set[int] = set(begins[0])
    found: list[Stretch] = []
    met: set[int] = set(open_here)
    last, written = 0, 0
    for cut, following in zip([0, *cuts], cuts, strict=False):
        if cut:
            open_here.difference_update(ends.get(cut, ()))
            open_here.update(begins.get(cut, ()))
            if len(met | open_here) > IN_A_CHAIN:
                found.append(Stretch(last, tuple(sorted(met))))
                written += len(met)
                met = set()
            met |= open_here
        if written > MOST_COPIES * len(ranges):
            return []
        last = following - 1
    return [*found, Stretch(last, tuple(sorted(met)))]


def ways(count: int) -> int:
    """Among how many chains to choose at once: ``LEVELS`` choices lead to one of `count`."""
    least = LEAST_WAYS
    while least**LEVELS < count:
        least += 1
    return least
