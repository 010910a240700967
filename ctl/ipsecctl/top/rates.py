"""Owns how counters and reports become packets a second; must not know who asks for them, nor how.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

WINDOW_S = 5.0
"""Sources are counted over so long: what is reported of a second alone would jump about."""
MOST_SOURCES = 10_000
"""How many sources are kept, those that were seen last; a flood can come from any number."""


@dataclass(frozen=True, slots=True)
class RuleRate:
    """A rule, all it has matched, and how many packets a second; None until that is known."""

    store: str
    policy: str
    rule: str
    action: str
    packets: int
    bytes: int
    rate: float | None
    filters: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells this rule from all others."""
        return (self.store, self.policy, self.rule)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was last seen of a source: a packet, what decided about it, and when."""

    at: str
    action: str
    store: str
    policy: str
    rule: str
    filter: str
    packet: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The rule that decided, as `RuleRate` has it."""
        return (self.store, self.policy, self.rule)


@dataclass(frozen=True, slots=True)
class SourceRate:
    """A source, about how many of its packets were dropped in all and a second, and the last."""

    source: str
    packets: float
    rate: float
    last: Sight

    @property
    def key(self) -> str:
        """What tells this source from all others."""
        return self.source


class RuleRates:
    """The counters of all rules, and what they were at the reply before."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str, str], int] = {}
        self._at_s: float | None = None

    def take(self, rules: list[dict[str, Any]], at_s: float) -> list[RuleRate]:
        """The rates of the `rules` of a reply of ``Stats`` that came at `at_s`.

        A rule that was not there before has none yet. A counter that has become smaller was
        begun anew in between, and what it shows has come since.
        """
        passed_s = None if self._at_s is None else at_s - self._at_s
        rates = []
        counted = {}
        for rule in rules:
            key = (str(rule["store"]), str(rule["policy"]), str(rule["rule"]))
            packets, before = int(rule["packets"]), self._before.get(key)
            rate = None
            if before is not None and passed_s:
                rate = (packets - before if packets >= before else packets) / passed_s
            counted[key] = packets
            filters = tuple(rule.get("filters") or ())
            action, size = str(rule["action"]), int(rule["bytes"])
            rates.append(RuleRate(*key, action, packets, size, rate, filters))
        self._before, self._at_s = counted, at_s
        return rates


@dataclass(frozen=True, slots=True)
class _Batch:
    at_s: float
    seen: Counter[str]
    blocked: int
    reported: int


class SourceRates:
    """The packets of each source, estimated from those that were reported.

    Not all dropped packets are reported, if they are many. Those that are stand for the others:
    they are multiplied by how many were dropped for each that was reported.
    """

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()
        self._packets: dict[str, float] = {}
        self._last: dict[str, Sight] = {}
        self._by_rule: dict[tuple[str, str, str], Sight] = {}
        self._counted = (0, 0)
        self._began_s: float | None = None

    def begin(self, at_s: float) -> None:
        """Reports come anew, with numbers that begin at 0; what is known of sources stays."""
        self._counted = (0, 0)
        self._batches.clear()
        self._began_s = at_s

    def take(self, reply: dict[str, Any], at_s: float) -> None:
        """Count a reply of ``Monitor`` that came at `at_s`."""
        blocked, lost = int(reply["blocked"]), int(reply["lost"])
        packets = reply["packets"]
        seen = Counter(str(packet["source"]) for packet in packets)
        blocked_before, lost_before = self._counted
        self._counted = (blocked, lost)
        dropped = max(0, blocked - blocked_before)
        reported = max(0, dropped - (lost - lost_before)) or len(packets)
        self._batches.append(_Batch(at_s, seen, max(dropped, len(packets)), reported))
        self._forget(at_s)
        scale = max(dropped, len(packets)) / reported if reported else 1.0
        for packet in packets:
            self._note(packet)
        for source, number in seen.items():
            self._packets[source] = self._packets.get(source, 0.0) + number * scale
        for source in list(self._last)[: max(0, len(self._last) - MOST_SOURCES)]:
            del self._last[source], self._packets[source]

    def rates(self, now_s: float) -> list[SourceRate]:
        """All sources that are known, with what they send now."""
        self._forget(now_s)
        recent: Counter[str] = Counter()
        for batch in self._batches:
            recent.update(batch.seen)
        began_s = now_s if self._began_s is None else self._began_s
        span_s = min(WINDOW_S, max(1.0, now_s - began_s))
        per_s = self._scale() / span_s
        return [
            SourceRate(source, self._packets[source], recent[source] * per_s, last)
            for source, last in self._last.items()
        ]

    def last_of_rule(self, key: tuple[str, str, str]) -> Sight | None:
        """The last packet that a rule decided about, if one was reported."""
        return self._by_rule.get(key)

    def _scale(self) -> float:
        """How many packets were dropped lately for each that was reported."""
        reported = sum(batch.reported for batch in self._batches)
        return sum(batch.blocked for batch in self._batches) / reported if reported else 1.0

    def _forget(self, now_s: float) -> None:
        while self._batches and self._batches[0].at_s <= now_s - WINDOW_S:
            self._batches.popleft()

    def _note(self, packet: dict[str, Any]) -> None:
        known = ("at", "action", "store", "policy", "rule", "filter", "packet")
        sight = Sight(*(str(packet.get(name) or "") for name in known))
        source = str(packet["source"])
        # Taken out and put in again, so that what was seen last stands last.
        self._last.pop(source, None)
        self._last[source] = sight
        if sight.rule:
            self._by_rule.pop(sight.key, None)
            self._by_rule[sight.key] = sight
            if len(self._by_rule) > MOST_SOURCES:
                del self._by_rule[next(iter(self._by_rule))]
