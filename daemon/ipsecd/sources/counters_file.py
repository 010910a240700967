"""Owns the file of what rules have matched: what the counters of the kernel count on from.

Losing it loses counts, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ipsecd.model.values import Origin
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.strict_json import decode, flag, integer, items, members, number, text

MAX_BYTES = 64 << 20
MAX_COUNT = 1 << 100
"""More than a sum of any counters of the kernel, which have 64 bits."""

FORM = Form(
    "counters",
    2,
    MAX_BYTES,
    "nothing need be done: rules are counted from now on, and it is written again",
    earlier=(1,),
)
"""Version 1 does not say of a rule whether it was an audit."""
_LENGTH, _LENGTH_IN_1 = 9, 8

Pair = tuple[int, int]
"""Packets and bytes."""


@dataclass(frozen=True, slots=True)
class KeptCount:
    """What is kept about the count of one rule.

    It has matched ``base`` and what its counters in the kernel hold, which was ``last`` when they
    were read last, by the name of what counts. ``since`` is when its counting began; ``seen`` when
    it was in force last, 0 if it still was. Both are in seconds since the epoch.
    """

    since: float
    seen: float = 0.0
    base: Pair = (0, 0)
    last: Mapping[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptCounts:
    """What is kept about all rules. ``place`` is the boot and network namespace of the counters.

    ``tells_audits`` is whether it is known which rules were audits; else no origin says so.
    """

    place: str = ""
    rules: Mapping[Origin, KeptCount] = field(default_factory=dict)
    tells_audits: bool = True


class CountersFile:
    """The file, which is always replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "counters", FORM, disk)

    def save(self, content: bytes) -> None:
        """Save what ``counts_to_json`` made; raises ``IpsecdError``."""
        self._file.save(content)

    def load(self) -> KeptCounts:
        """What was saved last; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(counts_from_json) or KeptCounts()


def counts_to_json(counts: KeptCounts) -> bytes:
    """The counts as JSON, a rule a line."""
    lines = [
        # Each rule by itself: the interpreter is not held while thousands are written.
        json.dumps(
            [
                *(origin.store, origin.policy, origin.rule, origin.audits),
                *(kept.since, kept.seen),
                *kept.base,
                {part: [*pair] for part, pair in kept.last.items()},
            ]
        )
        for origin, kept in counts.rules.items()
    ]
    place = json.dumps(counts.place)
    rules = ",\n".join(lines)
    return f'{{"place": {place}, "rules": [\n{rules}\n]}}'.encode()


def counts_from_json(content: bytes) -> KeptCounts:
    """The inverse of ``counts_to_json``, which reads version 1 too; raises ``ValueError``."""
    whole = members(decode(content), "the whole", ("place", "rules"))
    records = [items(record, "a rule") for record in items(whole["rules"], "the rules")]
    tells_audits = not any(len(record) == _LENGTH_IN_1 for record in records)
    rules = dict(_rule(record, tells_audits=tells_audits) for record in records)
    return KeptCounts(text(whole["place"], "the place"), rules, tells_audits)


def _rule(record: list[object], *, tells_audits: bool) -> tuple[Origin, KeptCount]:
    if not tells_audits:
        record = [*record[:3], False, *record[3:]]
    store, policy, rule, audits, *counted = items(record, "a rule", _LENGTH)
    since, seen, packets, size, last = counted
    words = text(store, "a store"), text(policy, "a policy"), text(rule, "a rule")
    origin = Origin(*words, flag(audits, "whether it is an audit"))
    times = (number(since, "a time"), number(seen, "a time"))
    parts = members(last, "what counted").items()
    counts = {part: _pair(items(pair, "a count", 2)) for part, pair in parts}
    return origin, KeptCount(*times, _pair([packets, size]), counts)


def _pair(numbers: list[object]) -> Pair:
    packets, size = (integer(each, "a count", -MAX_COUNT, MAX_COUNT) for each in numbers)
    return packets, size
