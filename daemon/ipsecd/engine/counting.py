"""Owns what rules have matched since their counting began, in memory and on disk.

It fails no change, and none waits for it: what cannot be written is tried again later, and told.
Counters of rules of policies are read in the kernel's line, where they also go.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Lock

from ipsecd.backend.base import Count
from ipsecd.engine.accounts import (
    Rules,
    as_in_force,
    base_after,
    moved,
    read_anew,
    remembered,
    total,
)
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.entry_counting import EntryCounting
from ipsecd.engine.state import Condition, State
from ipsecd.engine.view import policy_rules_in_force, rules_in_force
from ipsecd.errors import IpsecdError
from ipsecd.garbage import collection_paused
from ipsecd.log import record
from ipsecd.model.values import Origin
from ipsecd.sources.counters_file import CountersFile, KeptCount, KeptCounts, counts_to_json
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.dynamic_file import name_of_boot
from ipsecd.sources.files import Disk

MOST_DYNAMIC = 10_000
"""Up to how many dynamic rules are kept: counting is no reason to read long sets every minute."""
WhatCounts = tuple[str, Condition]
ENTRIES = "entries"
"""What counts for dynamic rules."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a rule has matched, and since when, in seconds since the epoch."""

    since: float
    count: Count


@dataclass(frozen=True, slots=True)
class _Carried:
    """What is added to what the entries of a dynamic rule hold, which was made at ``created``."""

    created: float
    since: float
    count: Count


class Counting:
    """The counts of all rules."""

    def __init__(
        self,
        directory: Path,
        disk: Disk | None,
        enforcement: Enforcement,
        clock: Callable[[], float] = time.time,
        place: str = "",
    ) -> None:
        """The file is in `directory`. `clock` gives seconds since the epoch.

        `place` names boot and network namespace; those of now if it is left out.
        """
        self._file = CountersFile(directory, disk)
        self._enforcement = enforcement
        self._clock = clock
        self._place = place or _here()
        # What was read first is taken first. The kernel's line takes it at a start and at the end,
        # when nobody else does.
        self._lock = Lock()
        self._rules: dict[Origin, KeptCount] = {}
        self._carried: dict[str, _Carried] = {}
        self.entries = EntryCounting(directory, disk, enforcement, clock, self._place)
        """What entries of lists have matched."""
        self._saved = b""
        self._saved_for: WhatCounts | None = None
        self._has_begun = False
        self._problem = self._failure = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the file, in words."""
        return (*filter(None, (self._problem, self._failure)), *self.entries.warnings)

    @property
    def is_behind(self) -> bool:
        """Whether another policy has been put in force since the last ``keep``; for any thread."""
        return self._has_begun and _what_counts(self._enforcement.state) != self._saved_for

    def begin(self) -> None:
        """Go on from what was kept; called when the first state is in force."""
        if self._has_begun:
            return
        self._has_begun = True
        self.entries.begin()
        try:
            kept = self._file.load()
        except IpsecdError as error:
            self._problem = str(error)
            record(logging.WARNING, "counts-lost", reason=error.message)
            kept = KeptCounts()
        rules = kept.rules if kept.place == self._place else moved(kept.rules)
        if not kept.tells_audits:
            rules = as_in_force(rules, rules_in_force(self._enforcement.state))
        self._rules = {origin: each for origin, each in rules.items() if not origin.volatile}
        try:
            self.read_policy()
            self._carry_over({o: each for o, each in rules.items() if o.volatile})
        except (IpsecdError, OSError) as error:
            self._fail(error)

    def _carry_over(self, kept: Rules) -> None:
        """Have dynamic rules that were taken over count on from what was `kept` of them."""
        state = self._enforcement.state
        if not kept or len(state.dynamic) > MOST_DYNAMIC:
            return
        counts = self._of_entries(state)
        for rule in state.dynamic:
            if found := kept.get(rule.origin):
                base = base_after(found, {ENTRIES: counts[rule.origin]})
                self._carried[rule.name] = _Carried(rule.created, found.since, base)

    def read(self) -> dict[Origin, Counted]:
        """What all rules have matched, and the packets of ``UNREADABLE``; for any thread."""
        return self.read_policy() | self._read_dynamic(inf)

    def read_policy(self) -> dict[Origin, Counted]:
        """Read the counters of rules of policies; what those have matched; for any thread.

        While it is not known what the kernel holds, nothing is read: counters seem to be missing.
        """
        enforcement = self._enforcement
        with self._lock:
            state = enforcement.state
            if not state.held:
                backend = enforcement.run(lambda: enforcement.backend)
                readings = backend.readings(self._rules, enforcement.run)
                rules = policy_rules_in_force(state)
                self._rules = read_anew(self._rules, readings, rules, self._clock())
            kept = self._rules
        return {origin: Counted(each.since, total(each)) for origin, each in kept.items()}

    def keep(self, *, at_end: bool = False) -> None:
        """Read all counters, and write what has changed; in the line of changes, or alone.

        What cannot be read or written is tried again with the next, and not at once. `at_end`
        all that is kept is written when this returns.
        """
        if not self._has_begun:
            return
        self.entries.keep(at_end=at_end)
        self._saved_for = _what_counts(self._enforcement.state)
        try:
            content = counts_to_json(KeptCounts(self._place, self._to_keep()))
            if content != self._saved:
                self._file.save(content)
        except (IpsecdError, OSError) as error:
            self._fail(error)
        else:
            self._saved = content
            self._failure = self._problem = ""

    def _to_keep(self) -> Rules:
        self.read_policy()
        with self._lock:
            self._rules = remembered(self._rules, self._clock())
            rules = dict(self._rules)
        dynamic = self._enforcement.state.dynamic
        self._carried = {
            name: carried
            for name, carried in self._carried.items()
            if (rule := dynamic.get(name)) and rule.created == carried.created
        }
        for origin, counted in self._read_dynamic(MOST_DYNAMIC).items():
            base = self._carried[origin.rule].count if origin.rule in self._carried else Count()
            last = counted.count.without(base)
            rules[origin] = KeptCount(counted.since, 0.0, base, {ENTRIES: last})
        return rules

    def _fail(self, error: IpsecdError | OSError) -> None:
        if not self._failure:
            record(logging.WARNING, "counts-not-kept", reason=error)
        self._failure = f"what rules have matched cannot be kept: {error}"

    # -- inside ----------------------------------------------------------------------------------

    def _read_dynamic(self, most: float) -> dict[Origin, Counted]:
        """What dynamic rules have matched; of none if there are more than `most`."""
        state = self._enforcement.state
        if len(state.dynamic) > most:
            return {}
        counted, counts = {}, self._of_entries(state)
        for rule in state.dynamic:
            more = self._carried_of(rule)
            counted[rule.origin] = Counted(more.since, more.count + counts[rule.origin])
        return counted

    def _carried_of(self, rule: DynamicRule) -> _Carried:
        """What is added to the counters of a rule: nothing if it is another of that name."""
        carried = self._carried.get(rule.name)
        if carried and carried.created == rule.created:
            return carried
        return _Carried(rule.created, rule.created, Count())

    def _of_entries(self, state: State) -> dict[Origin, Count]:
        """What the entries of each dynamic rule hold."""
        enforcement, counts = self._enforcement, {}
        # A collection would hold whoever is waited for, in whichever thread it falls.
        with collection_paused():
            entries = {} if state.stopped else enforcement.backend.volatile_counts(enforcement.run)
            for rule in state.dynamic:
                found = (entries.get(entry) for entry in state.volatile.credits(rule.origin))
                counts[rule.origin] = sum(filter(None, found), Count())
        return counts


def _here() -> str:
    """This boot and this network namespace, in which the counters of the kernel are."""
    namespace = Path("/proc/self/ns/net").stat().st_ino
    return f"{name_of_boot(os.environ)} {namespace}"


def _what_counts(state: State) -> WhatCounts:
    """What is another where counters may have gone."""
    return state.classifier.digest, state.condition
