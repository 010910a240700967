"""Owns enforcement in Python: evaluates packets that tests and offline checks hand to it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from time import monotonic

from ipsecd.backend.base import (
    UNREADABLE,
    Count,
    EntryCounts,
    Line,
    Observation,
    Readings,
    WantsEntries,
    sum_of,
)
from ipsecd.backend.lines import at_once
from ipsecd.backend.memory_entries import MemoryEntries
from ipsecd.backend.reporting import Report
from ipsecd.compiler.classifier import Classifier, Entry, Lookups, Verdict
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Delta, Volatile
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Action, Origin
from ipsecd.progress import Tell, silent


class _LiveTable:
    """A dynamic table as a kernel holds it: each entry ends by itself at its deadline."""

    def __init__(self, table: TableId, clock: Callable[[], float]) -> None:
        self.id = table
        self.deadlines: dict[bytes, float] = {}
        self.counts: dict[bytes, Count] = {}
        self._clock = clock

    def find(self, key: bytes) -> Origin | None:
        """An origin that stands for any dynamic rule if the entry is there and has not ended."""
        if self.deadlines.get(key, -1.0) <= self._clock():
            return None
        return DYNAMIC


DYNAMIC = Origin("dynamic", "", "")


class MemoryReporting:
    """Tells of the packets that it is handed as dropped, up to the budget."""

    def __init__(self) -> None:
        self._reports: deque[Report] = deque()
        self._news = -1
        self._blocked = 0
        self.budget = 0

    def drop(self, reports: Iterable[Report]) -> None:
        """Count packets as dropped, and tell of as many as the budget permits a second."""
        if self.budget:
            for number, report in enumerate(reports):
                self._blocked += 1
                if number < self.budget:
                    self._reports.append(report)
            os.eventfd_write(self._news, 1)

    def set_budget(self, packets_per_second: int) -> None:
        """Tell of so many packets; 0 forgets all."""
        if self._news < 0:
            self._news = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.budget = packets_per_second
        if not packets_per_second:
            self._reports.clear()
            self._blocked = 0

    def descriptors(self) -> tuple[int, ...]:
        """One that is readable when there are reports."""
        return (self._news,) if self._news >= 0 else ()

    def read(self, most: int) -> list[Report]:
        """The reports that wait."""
        with suppress(OSError):
            os.eventfd_read(self._news)
        reports = [self._reports.popleft() for _ in range(min(most, len(self._reports)))]
        if self._reports:
            os.eventfd_write(self._news, 1)
        return reports

    def blocked(self) -> int:
        """How many packets it was handed."""
        return self._blocked


class MemoryBackend:
    """A backend whose ``judge`` really evaluates packets; it enforces nothing."""

    name = "memory"
    failures: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._classifier: Classifier | None = None
        self._live: dict[TableId, _LiveTable] = {}
        self._counts: dict[Origin, Count] = {}
        self._ended: dict[Origin, Count] = {}
        self._entries = MemoryEntries()
        self._unparsable = 0
        self.reporting = MemoryReporting()

    def probe(self) -> tuple[str, ...]:
        """No features: nothing is asked of any kernel."""
        return ()

    def check(self, classifier: Classifier) -> None:
        """Accept everything."""

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        """Do nothing: nothing takes long."""

    def discard(self) -> None:
        """Do nothing: nothing was prepared."""

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Hold `classifier` and a copy of the entries of `volatile`; what stays keeps its count."""
        self._classifier = classifier
        self._end({o: c for o, c in self._counts.items() if o not in classifier.origins})
        self._counts = {o: self._counts.get(o, Count()) for o in classifier.origins}
        self._entries.hold(classifier.lists)
        counts = self.volatile_counts()
        self._live = {}
        self._change(Delta(added=tuple(volatile.entries())), volatile)
        for (table, key), count in counts.items():
            if table in self._live and key in self._live[table].deadlines:
                self._live[table].counts[key] = count

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Remove and add entries; drop tables that are empty after it."""
        self._change(delta, volatile)

    def _change(self, delta: Delta, volatile: Volatile) -> None:
        for entry in delta.removed:
            live = self._live[entry.table]
            del live.deadlines[entry.key]
            live.counts.pop(entry.key, None)
        for entry in delta.added:
            live = self._live.setdefault(entry.table, _LiveTable(entry.table, self._clock))
            live.deadlines[entry.key] = entry.deadline
        self._live = {table: live for table, live in self._live.items() if table in volatile}

    def judge(self, packet: Packet, host: Host) -> Verdict:
        """The verdict of what is in force on `packet`, which is counted."""
        if self._classifier is None:
            return Classifier().lookup(packet, host)
        host = replace(host, lists=self._classifier.lists)
        live = tuple(self._live.values())
        if not packet.parsed and packet.interface_type is not None:
            verdict = self._classifier.lookup(packet, host, live)
            self._unparsable += verdict.action is Action.BLOCK
            return verdict
        audit, deciding = Lookups(self._classifier, host, live).entries(packet)
        for entry in filter(None, (audit, deciding)):
            self._count(entry)
            self._entries.count(entry.table, packet)
        return Verdict(
            deciding.action if deciding else Action.PERMIT,
            deciding.origin if deciding else None,
            audit.origin if audit else None,
        )

    def _count(self, entry: Entry) -> None:
        if entry.origin is DYNAMIC:
            counts = self._live[entry.table].counts
            counts[entry.key] = counts.get(entry.key, Count()) + Count(1, 0)
        else:
            self._counts[entry.origin] = self._counts.get(entry.origin, Count()) + Count(1, 0)

    def observe(self) -> Observation:
        """The state that was applied: memory does not drift."""
        return Observation(self._classifier.digest if self._classifier else None)

    def owner_fd(self) -> int:
        """Nobody else can change memory."""
        return -1

    def adopt(self) -> None:
        """Do nothing: an earlier process has left nothing."""

    def remove(self) -> None:
        """Hold nothing."""
        self._classifier = None
        self._live = {}
        self._end(self._counts)
        self._counts = {}
        self._entries.hold({})

    def give_way(self) -> None:
        """Hold nothing."""
        self.remove()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def readings(self, known: Iterable[Origin], run: Line = at_once) -> Readings:
        """Packets judged, by rule, also by those that have gone."""
        del known, run
        ended, self._ended = self._ended, {}
        now = {**self._counts, UNREADABLE: Count(self._unparsable, 0)}
        return Readings({"memory": now}, {"memory": ended})

    def _end(self, counts: Mapping[Origin, Count]) -> None:
        self._ended = sum_of(self._ended, counts)

    def volatile_counts(self, run: Line = at_once) -> Mapping[tuple[TableId, bytes], Count]:
        """Packets judged, by entry."""
        del run
        return {
            (table, key): live.counts.get(key, Count())
            for table, live in self._live.items()
            for key in live.deadlines
        }

    def entry_counts(self, wanted: WantsEntries, run: Line = at_once) -> list[EntryCounts]:
        """Packets judged, by the entries of lists."""
        del run
        return self._entries.read(wanted)

    def entries_before(self) -> Callable[[str], bool]:
        """Tells what had ended by now."""
        return self._entries.before()

    def unparsable(self) -> int:
        """How many unparsable packets were dropped."""
        return self._unparsable

    def is_stale(self) -> bool:
        """Never: it depends on nothing outside this process."""
        return False

    def watch_fd(self) -> int:
        """Nobody else can change memory."""
        return -1

    def changed(self) -> bool:
        """Nobody else can change memory."""
        return False
