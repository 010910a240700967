"""Owns what was dropped within one minute: by rule, by source, and some packets as they were.

It must not know where that is kept. Invariants:

1. However many packets and sources there are, memory is bounded, and what is left out is summed up.
2. Rules share what there is room for: a flood that one rule drops does not push out what another
   drops once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from random import Random
from typing import TypeVar

from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import Family
from ipsecd.model.sightings import Sighting
from ipsecd.model.values import Store
from ipsecd.sources.ring import Json

MOST_RULES = 1000
"""So many rules are told apart in a minute; of further ones only what their counters say."""
MOST_SOURCES = 1000
"""So many sources are kept of a minute, those that sent most of each rule."""
MOST_SOURCES_OF_RULE = 4 * MOST_SOURCES
"""So many are counted of a rule before those that sent least are summed up."""
SAMPLES_OF_RULE, MOST_SAMPLES = 20, 200

T = TypeVar("T")
Of = tuple[str, str, str, str]
"""A rule: its action, store, policy and name; the last three are empty where none is known."""
Counts = Mapping[Of, tuple[int, int, float]]
"""Packets and bytes that the counters of rules say, and since when, in seconds since the epoch."""


@dataclass(slots=True)
class _OfRule:
    """What was seen of one rule: packets and bytes in all, and by source."""

    seen: list[int] = field(default_factory=lambda: [0, 0])
    sources: dict[tuple[Family, int], list[int]] = field(default_factory=dict)
    samples: list[Sighting] = field(default_factory=list)

    def take(self, sighting: Sighting, luck: Random) -> None:
        self.seen[0] += 1
        self.seen[1] += sighting.length
        source = sighting.packet.family, sighting.packet.source
        if (counted := self.sources.get(source)) is None:
            if len(self.sources) >= MOST_SOURCES_OF_RULE:
                self._sum_up()
            counted = self.sources[source] = [0, 0]
        counted[0] += 1
        counted[1] += sighting.length
        # Each packet of the minute is as likely a sample as any other (reservoir sampling).
        if len(self.samples) < SAMPLES_OF_RULE:
            self.samples.append(sighting)
        elif (place := luck.randrange(self.seen[0])) < SAMPLES_OF_RULE:
            self.samples[place] = sighting

    def _sum_up(self) -> None:
        """Forget the half of the sources that sent least: all of a rule says what they sent."""
        ranked = sorted(self.sources.items(), key=lambda item: item[1], reverse=True)
        self.sources = dict(ranked[: MOST_SOURCES_OF_RULE // 2])

    def ranked(self) -> list[tuple[str, int, int]]:
        """The sources with packets and bytes, most first."""
        ranked = sorted(self.sources.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            (format_value(*source), counted[0], counted[1])
            for source, counted in ranked[:MOST_SOURCES]
        ]


class Minute:
    """One minute, from its beginning in nanoseconds since the epoch."""

    def __init__(self, begin: int, luck: Random) -> None:
        self.begin = begin
        self._luck = luck
        self._rules: dict[Of, _OfRule] = {}

    def take(self, sightings: Iterable[Sighting]) -> None:
        """Count packets that were seen."""
        for sighting in sightings:
            of = of_sighting(sighting)
            if (rule := self._rules.get(of)) is None:
                if len(self._rules) >= MOST_RULES:
                    continue
                rule = self._rules[of] = _OfRule()
            rule.take(sighting, self._luck)

    def record(self, exact: Mapping[Of, tuple[int, int]] | None) -> list[Json]:
        """What each rule dropped, which were `exact` so many packets and bytes, None if unknown."""
        names = dict.fromkeys((*self._rules, *(exact or ())))
        rules: list[Json] = []
        chosen = self._chosen_sources()
        for of in names:
            seen = self._rules.get(of, _OfRule())
            counted = None if exact is None else exact.get(of)
            if not seen.seen[0] and (counted is None or not counted[0]):
                continue
            rules.append(
                {
                    "of": list(of),
                    "counted": list(counted) if counted else None,
                    "seen": list(seen.seen),
                    "sources": [list(each) for each in chosen.get(of, ())],
                }
            )
        return rules

    def samples(self) -> list[Sighting]:
        """Some packets, of all rules alike, in the order in which they came."""
        by_rule = [rule.samples for rule in self._rules.values()]
        return sorted(_in_turns(by_rule, MOST_SAMPLES), key=lambda sighting: sighting.at_ns)

    def _chosen_sources(self) -> dict[Of, list[tuple[str, int, int]]]:
        pairs = [[(of, each) for each in rule.ranked()] for of, rule in self._rules.items()]
        chosen: dict[Of, list[tuple[str, int, int]]] = {}
        for of, source in _in_turns(pairs, MOST_SOURCES):
            chosen.setdefault(of, []).append(source)
        return chosen


def of_sighting(sighting: Sighting) -> Of:
    """The rule that decided about a packet."""
    origin = sighting.origin
    words = (origin.store, origin.policy, origin.rule) if origin else ("", "", "")
    return (sighting.action.value, *words)


def difference(before: Counts, now: Counts, begin: int) -> dict[Of, tuple[int, int]]:
    """What rules have counted since `begin`, in nanoseconds since the epoch, as `before` was read.

    One that is new or was set back counts from 0. One that was there already and has not been read
    then is left out: it may have a count that is kept of long ago.
    """
    counted = {}
    for of, (packets, size, since) in now.items():
        was = before.get(of)
        if was is None or was[2] != since:
            if since * 1e9 < begin:
                continue
            was = (0, 0, since)
        if packets < was[0] or size < was[1]:
            was = (0, 0, since)
        counted[of] = (packets - was[0], size - was[1])
    return counted


def remembered(before: Counts | None, now: Counts, most: int) -> Counts:
    """What is to be compared with next: a policy that is assigned again brings its counts back.

    A dynamic rule does not, and may have counted on without being read.
    """
    if before is None or len(before) > most + len(now):
        return now
    gone = {of: count for of, count in before.items() if of[1] != Store.DYNAMIC.value}
    return {**gone, **now}


def _in_turns(rows: Sequence[Sequence[T]], most: int) -> list[T]:
    """The first of each row, then the second of each, and so on, up to so many."""
    nothing = object()
    turns = chain.from_iterable(zip_longest(*rows, fillvalue=nothing))
    taken: list[T] = []
    for each in turns:
        if len(taken) == most:
            break
        if each is not nothing:
            taken.append(each)  # type: ignore[arg-type]
    return taken
