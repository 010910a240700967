"""Owns enforcement in Python: evaluates packets that tests and offline checks hand to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import monotonic

from ipsecd.backend.base import UNREADABLE, Count, Line, Observation, Readings, sum_of
from ipsecd.backend.lines import at_once
from ipsecd.compiler.classifier import Classifier, Verdict
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Origin
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
        self._unparsable = 0

    def probe(self) -> tuple[str, ...]:
        """No features: nothing is asked of any kernel."""
        return ()

    def check(self, classifier: Classifier) -> None:
        """Accept everything."""

    def prepare(self, classifier: Classifier, run: Line, tell: Tell = silent) -> None:
        """Do nothing: nothing takes long."""

    def discard(self) -> None:
        """Do nothing: nothing was prepared."""

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Hold `classifier` and a copy of the entries of `volatile`; what stays keeps its count."""
        self._classifier = classifier
        self._end({o: c for o, c in self._counts.items() if o not in classifier.origins})
        self._counts = {o: self._counts.get(o, Count()) for o in classifier.origins}
        counts = self.volatile_counts()
        self._live = {}
        self.change(Delta(added=tuple(volatile.entries())), volatile)
        for (table, key), count in counts.items():
            if table in self._live and key in self._live[table].deadlines:
                self._live[table].counts[key] = count

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Remove and add entries; drop tables that are empty after it."""
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
        verdict = self._classifier.lookup(packet, host, live)
        if verdict.origin is DYNAMIC:
            self._count_dynamic(packet, host)
        elif verdict.origin is not None:
            count = self._counts.get(verdict.origin, Count())
            self._counts[verdict.origin] = count + Count(1, 0)
        elif not packet.parsed and verdict.action.value == "block":
            self._unparsable += 1
        return verdict

    def _count_dynamic(self, packet: Packet, host: Host) -> None:
        for live in sorted(self._live.values(), key=lambda table: table.id.order):
            key = live.id.key_of(packet, host)
            if key is not None and live.find(key):
                live.counts[key] = live.counts.get(key, Count()) + Count(1, 0)
                return

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

    def give_way(self) -> None:
        """Hold nothing."""
        self.remove()

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def counts(self) -> Mapping[Origin, Count]:
        """Packets judged, by rule; bytes are not known here."""
        return dict(self._counts)

    def readings(self, known: Iterable[Origin]) -> Readings:
        """Packets judged, by rule, also by those that have gone."""
        del known
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
