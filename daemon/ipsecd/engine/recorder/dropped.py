"""Owns what was dropped within any time, added up from the record; writes nothing.

However long that time is, memory is bounded: of sources those stay that sent most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ipsecd.engine.recorder.minutes import Of
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Network
from ipsecd.sources.ring import Json, Ring
from ipsecd.sources.strict_json import integer, items, members, text

SECOND_NS = 1_000_000_000
PERIODS_S = (60, 300, 900, 3600, 6 * 3600, 86400)
"""How long the periods are that a time is divided into: the shortest of which there are few."""
MOST_PERIODS = 60
MOST_SOURCES = 1000
MOST_COUNTED = 20_000
MOST_ROWS = 5000
"""So many periods of rules are told of, those with most packets."""
MOST_SAMPLES = 200
MOST_HELD = 10 * MOST_SAMPLES
"""So many samples are held while the record is read."""
_MOST = 1 << 63


@dataclass(slots=True)
class Counted:
    """Packets and bytes: those that counters say, and those that were seen one by one.

    ``is_whole`` says that the counters were read for all of it.
    """

    packets: int = 0
    bytes: int = 0
    seen: int = 0
    seen_bytes: int = 0
    is_whole: bool = True

    @property
    def rank(self) -> int:
        """What says which of several is the most."""
        return max(self.packets, self.seen)


@dataclass(slots=True)
class Source:
    """What was seen from one source, and within which time, in nanoseconds since the epoch."""

    packets: int
    bytes: int
    first: int
    last: int


@dataclass(slots=True)
class Dropped:
    """What was dropped: by period and rule, and by rule and source; and some packets.

    ``period_s`` is how long a period is; each is known by its beginning, in nanoseconds since the
    epoch. ``blocked`` and ``lost`` are how many packets were dropped, and not seen, in all.
    """

    period_s: int
    periods: dict[tuple[int, Of], Counted] = field(default_factory=dict)
    sources: dict[tuple[Of, str], Source] = field(default_factory=dict)
    samples: list[Json] = field(default_factory=list)
    blocked: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a time, in nanoseconds since the epoch, a rule by name, and sources."""

    since: int
    until: int
    rule: str | None = None
    network: Network | None = None

    def is_from(self, source: str) -> bool:
        """Whether a source is among those that are asked for."""
        network = self.network
        if network is None:
            return True
        address = parse_address(f"[{source}]" if ":" in source else source)
        same = isinstance(address, Network) and address.family is network.family
        return same and isinstance(address, Network) and address.address in network


def dropped(ring: Ring, wanted: Wanted) -> Dropped:
    """What the record says of the minutes that share any time with what is asked for."""
    span_s = max(1, (wanted.until - wanted.since) // SECOND_NS)
    period_s = next((each for each in PERIODS_S if span_s <= each * MOST_PERIODS), PERIODS_S[-1])
    total = Dropped(period_s)
    samples: dict[str, deque[Json]] = {}
    for minute in _minutes(ring, wanted):
        # What is no record that this version knows is left out; it has its checksum.
        _add(total, samples, minute, wanted)
        if len(total.sources) > 2 * MOST_COUNTED:
            total.sources = _most(total.sources, MOST_COUNTED)
        if len(total.periods) > 2 * MOST_COUNTED:
            _keep_most_periods(total, MOST_COUNTED)
        if sum(map(len, samples.values())) > MOST_HELD:
            samples = _latest(samples)
    _keep_most_periods(total, MOST_ROWS)
    total.sources = _most(total.sources, MOST_SOURCES)
    chosen = [each for some in _latest(samples).values() for each in some]
    total.samples = sorted(chosen, key=_at)
    return total


def _latest(samples: dict[str, deque[Json]]) -> dict[str, deque[Json]]:
    """Of samples by rule as many as are told: the last of each rule, of the rules seen last."""
    share = MOST_SAMPLES // max(1, min(len(samples), MOST_SAMPLES))
    seen_last = sorted(samples.items(), key=lambda item: _at(item[1][-1]))[-MOST_SAMPLES:]
    return {key: deque(list(some)[-share:], MOST_SAMPLES) for key, some in seen_last}


def _at(sample: Json) -> str:
    return str(sample["at"])


def _minutes(ring: Ring, wanted: Wanted) -> Iterator[Json]:
    for number in ring.numbers:
        for record in ring.contents(number).records:
            if record.get("kind") != "minute":
                continue
            begin = integer(record["at"], "the time", 0, _MOST)
            end = integer(record["until"], "the time", 0, _MOST)
            if end > wanted.since and begin <= wanted.until:
                yield record


def _add(total: Dropped, samples: dict[str, deque[Json]], minute: Json, wanted: Wanted) -> None:
    begin = integer(minute["at"], "the time", 0, _MOST)
    until = integer(minute["until"], "the time", 0, _MOST)
    period_ns = total.period_s * SECOND_NS
    period = max(begin, wanted.since) // period_ns * period_ns
    total.blocked += integer(minute["blocked"], "packets", 0, _MOST)
    total.lost += integer(minute["lost"], "packets", 0, _MOST)
    for rule in items(minute["rules"], "the rules"):
        facts = members(rule, "a rule")
        action, store, policy, name = (text(each, "a rule") for each in items(facts["of"], "it", 4))
        if wanted.rule is None or name == wanted.rule:
            _add_rule(total, (action, store, policy, name), facts, (period, begin, until), wanted)
    for each in items(minute["samples"], "the samples"):
        sample = members(each, "a sample")
        if wanted.rule not in (None, sample["rule"]) or not wanted.is_from(str(sample["source"])):
            continue
        key = str((sample["action"], sample["store"], sample["policy"], sample["rule"]))
        samples.setdefault(key, deque(maxlen=MOST_SAMPLES)).append(sample)


def _add_rule(
    total: Dropped, of: Of, facts: Json, times: tuple[int, int, int], wanted: Wanted
) -> None:
    period, begin, until = times
    seen, seen_bytes = _pair(facts["seen"])
    if wanted.network is not None:
        seen = seen_bytes = 0
    for each in items(facts["sources"], "the sources"):
        name, packets, size = items(each, "a source", 3)
        source = text(name, "a source")
        if not wanted.is_from(source):
            continue
        count = integer(packets, "packets", 0, _MOST), integer(size, "bytes", 0, _MOST)
        if wanted.network is not None:
            seen, seen_bytes = seen + count[0], seen_bytes + count[1]
        known = total.sources.setdefault((of, source), Source(0, 0, begin, until))
        known.packets, known.bytes = known.packets + count[0], known.bytes + count[1]
        known.first, known.last = min(known.first, begin), max(known.last, until)
    counted = None if wanted.network is not None else facts["counted"]
    if not seen and counted is None:
        return
    sums = total.periods.setdefault((period, of), Counted())
    sums.seen, sums.seen_bytes = sums.seen + seen, sums.seen_bytes + seen_bytes
    if counted is None:
        sums.is_whole = False
    else:
        packets_and_bytes = _pair(counted)
        sums.packets += packets_and_bytes[0]
        sums.bytes += packets_and_bytes[1]


def _keep_most_periods(total: Dropped, most: int) -> None:
    if len(total.periods) > most:
        ranked = sorted(total.periods.items(), key=lambda item: (-item[1].rank, item[0]))
        total.periods = dict(ranked[:most])


def _pair(value: object) -> tuple[int, int]:
    packets, size = items(value, "a count", 2)
    return integer(packets, "packets", 0, _MOST), integer(size, "bytes", 0, _MOST)


def _most(sources: dict[tuple[Of, str], Source], most: int) -> dict[tuple[Of, str], Source]:
    ranked = sorted(sources.items(), key=lambda item: (-item[1].packets, item[0]))
    return dict(ranked[:most])
