"""Owns what the counters were over time, as long as the page has run; must not know how it looks.

The daemon is asked again and again, and for no more than a fiftieth of the time: a daemon with very
many rules is asked seldom.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from ipsecctl.web.asking import Daemon
from ipsecd.errors import IpsecdError
from ipsecd.language.moments import parse_moment

EVERY_S = 10.0
KEPT_S = 24 * 3600.0
_SHARE = 50
_MOST_RULES = 20

Rule = tuple[str, str, str, str]
"""Store, policy, name and action."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How many packets were matched in the seconds before `at`, a time of the epoch.

    ``rules`` has the rules that matched most of them.
    """

    at: float
    seconds: float
    packets: Mapping[str, int]
    rules: Mapping[Rule, int] = field(default_factory=dict)


class Samples:
    """The samples of a day, the oldest first."""

    def __init__(self) -> None:
        self.kept: deque[Sample] = deque(maxlen=int(KEPT_S / EVERY_S))
        self._before: dict[Rule, int] | None = None
        self._at = 0.0

    def take(self, counts: Iterable[Mapping[str, Any]], at: float) -> None:
        """Take the counts of all rules at a moment; the first ones only say where it begins.

        A rule whose count is lower than before was made anew, and counts from nothing. One that
        was not there before, and whose counting began before that, has come back.
        """
        now: dict[Rule, int] = {}
        back: set[Rule] = set()
        for count in counts:
            rule = (count["store"], count["policy"], count["rule"], count["action"])
            now[rule] = now.get(rule, 0) + count["packets"]
            if self._before is not None and rule not in self._before and _is_older(count, self._at):
                back.add(rule)
        before, seconds, self._before = self._before, at - self._at, now
        self._at = at
        if before is None or seconds <= 0:
            return
        grown = {
            rule: _grown(before.get(rule, 0), packets)
            for rule, packets in now.items()
            if rule not in back
        }
        packets: dict[str, int] = {}
        for rule, number in grown.items():
            packets[rule[3]] = packets.get(rule[3], 0) + number
        busiest = nlargest(_MOST_RULES, grown.items(), key=lambda item: item[1])
        self.kept.append(Sample(at, seconds, packets, {r: n for r, n in busiest if n}))

    def forget(self) -> None:
        """Begin anew with the next counts: what was matched meanwhile is of no known time."""
        self._before = None

    def since(self, moment: float) -> list[Sample]:
        """The samples from a moment on."""
        return [sample for sample in self.kept if sample.at >= moment]


def busiest(samples: Iterable[Sample], most: int) -> list[tuple[Rule, int]]:
    """The rules that matched most packets in some samples, as far as these tell."""
    total: dict[Rule, int] = {}
    for sample in samples:
        for rule, number in sample.rules.items():
            total[rule] = total.get(rule, 0) + number
    return nlargest(most, total.items(), key=lambda item: item[1])


async def keep(samples: Samples, daemon: Daemon, every_s: float = EVERY_S) -> None:
    """Take samples for ever; while the daemon does not answer there are none."""
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            answer = await daemon.ask("Stats")
        except IpsecdError:
            samples.forget()
        else:
            samples.take(answer["rules"], time.time())
        await asyncio.sleep(max(every_s, _SHARE * (loop.time() - started)))


def _is_older(count: Mapping[str, Any], at: float) -> bool:
    """Whether a rule began to count before a time of the epoch; an older daemon does not say."""
    since = count.get("since")
    # It is told in whole seconds.
    return since is not None and parse_moment(since) / 1e9 + 1 < at


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now
