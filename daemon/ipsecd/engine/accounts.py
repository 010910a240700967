"""Owns how the count of a rule goes on from what was kept, whatever its counters do; it is pure.

What a rule has matched is a base and what its counters in the kernel hold. Invariants:

1. Nothing counts twice: what a counter held is added to the base only when that counter has gone.
2. Nothing is lost that was read: a counter that is missing, or holds less than it did, has gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ipsecd.backend.base import UNREADABLE, Count, CountsByPart, Readings
from ipsecd.model.values import Origin
from ipsecd.sources.counters_file import KeptCount

MOST_REMEMBERED = 10_000
"""Of how many rules that are not in force the counts are remembered."""
REMEMBERED_S = 30 * 86_400.0
"""For how long they are."""

Rules = Mapping[Origin, KeptCount]


def total(kept: KeptCount) -> Count:
    """What a rule has matched."""
    return _sum([kept.base, *kept.last.values()])


def read_anew(
    rules: Rules, readings: Readings, in_force: Iterable[Origin], now: float
) -> dict[Origin, KeptCount]:
    """The `rules` as they are after `readings` at the time `now`, in seconds since the epoch."""
    following = dict(rules)
    for part, ended in readings.ended.items():
        for origin, count in ended.items():
            following[origin] = _without_part(following.get(origin, KeptCount(now)), part, count)
    counted = _by_rule(readings.now)
    present = {*in_force, UNREADABLE, *counted}
    for origin in present:
        kept = following.get(origin, KeptCount(now))
        counts = counted.get(origin, {})
        following[origin] = KeptCount(kept.since, 0.0, base_after(kept, counts), counts)
    for origin, kept in following.items():
        if origin not in present and (kept.last or not kept.seen):
            following[origin] = KeptCount(kept.since, now, base_after(kept, {}))
    return following


def moved(rules: Rules) -> dict[Origin, KeptCount]:
    """The `rules` where none of their counters is left, as after a reboot."""
    return {
        origin: KeptCount(kept.since, kept.seen, base_after(kept, {}))
        for origin, kept in rules.items()
    }


def as_in_force(rules: Rules, in_force: Iterable[Origin]) -> dict[Origin, KeptCount]:
    """The `rules`, of which it is not known which were audits, as what those `in_force` are."""
    audits = {replace(origin, audits=False): origin for origin in in_force if origin.audits}
    return {audits.get(origin, origin): kept for origin, kept in rules.items()}


def remembered(rules: Rules, now: float) -> dict[Origin, KeptCount]:
    """The `rules` without those that are to be forgotten."""
    gone = sorted((kept.seen, origin) for origin, kept in rules.items() if kept.seen)
    # A clock that was set back makes nothing older than it is.
    old = {origin for seen, origin in gone if min(seen, now) < now - REMEMBERED_S}
    old.update(origin for _, origin in gone[: max(0, len(gone) - MOST_REMEMBERED)])
    return {origin: kept for origin, kept in rules.items() if origin not in old}


def _by_rule(counts: CountsByPart) -> dict[Origin, dict[str, Count]]:
    counted: dict[Origin, dict[str, Count]] = {}
    for part, of_part in counts.items():
        for origin, count in of_part.items():
            counted.setdefault(origin, {})[part] = count
    return counted


def base_after(kept: KeptCount, counts: Mapping[str, Count]) -> Count:
    """The base, with what those counters held that have gone."""
    gone = []
    for part, last in kept.last.items():
        count = counts.get(part)
        if count is None or count.packets < last[0] or count.bytes < last[1]:
            gone.append(last)
    return _sum([kept.base, *gone])


def _without_part(kept: KeptCount, part: str, ended: Count) -> KeptCount:
    """What is kept after what counted as `part` held `ended` in the end."""
    last = {name: count for name, count in kept.last.items() if name != part}
    return KeptCount(kept.since, kept.seen, _sum([kept.base, ended]), last)


def _sum(pairs: Iterable[tuple[int, int]]) -> Count:
    packets = size = 0
    for pair in pairs:
        packets += pair[0]
        size += pair[1]
    return Count(packets, size)
