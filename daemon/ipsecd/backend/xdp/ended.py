"""Owns what counters in the maps hold that have gone, and reading those of dynamic entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ipsecd.backend.base import (
    UNREADABLE,
    Count,
    EntryCounts,
    Line,
    Readings,
    WantsEntries,
    sum_of,
)
from ipsecd.backend.lines import at_once
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry, Volatile
from ipsecd.model.values import Origin

PART = "programs"
AT_ONCE = 100
"""How many entries are read at a time; each takes some microseconds, in which bans wait."""


class EndedCounts:
    """The last values of counters that have gone, until somebody asks for them."""

    def __init__(self, left: Callable[[], Mapping[Origin, Count]]) -> None:
        """`left` gives what programs have counted that an earlier process left attached."""
        self._left = left
        self._counts: dict[Origin, Count] = {}

    def end(self, programs: Programs | None) -> None:
        """Take all that programs have counted which are attached nowhere any more.

        None stands for those that were left.
        """
        if programs:
            self._collect(programs)
        self._add(programs.counts() if programs else self._left())

    def exchange(
        self,
        old: Programs | None,
        fresh: Programs,
        restored: Mapping[Origin, Count],
        last: Mapping[Origin, Count],
    ) -> None:
        """Take what `fresh` programs lack, which began with the `restored` counts of others.

        The others may be the `old` programs of this process; `last` is what they had counted when
        they were attached nowhere any more.
        """
        if old and old is not fresh:
            self._collect(old)
        has = fresh.rules.in_force
        counts = {
            origin: count.without(restored.get(origin, Count()) if origin in has else Count())
            for origin, count in last.items()
        }
        self._add({origin: count for origin, count in counts.items() if count != Count()})

    def readings(self, programs: Programs | None) -> Readings:
        """What the counters of `programs` hold, or of those that were left, and what is told once.

        Others count on from what was left, so it must not seem to have gone until they do.
        """
        if programs is None:
            now = dict(self._left())
        else:
            self._collect(programs)
            unreadable = sum(n for name, n in programs.parse_results().items() if name != "not-ip")
            now = {**programs.counts(), UNREADABLE: Count(unreadable, 0)}
        ended, self._counts = self._counts, {}
        return Readings({PART: now}, {PART: ended})

    def _collect(self, programs: Programs) -> None:
        self._add(programs.rules.take_ended())

    def _add(self, counts: Mapping[Origin, Count]) -> None:
        self._counts = sum_of(self._counts, counts)


def read_entries(
    programs: Callable[[], Programs | None], run: Line
) -> dict[tuple[TableId, bytes], Count]:
    """What the dynamic entries of `programs` have matched; these may be others while it reads."""

    def read(entries: Sequence[Entry]) -> dict[tuple[TableId, bytes], Count]:
        present = programs()
        return present.entry_counts(entries) if present else {}

    def held() -> Volatile:
        present = programs()
        return present.volatile if present else Volatile()

    counts: dict[tuple[TableId, bytes], Count] = {}
    entries = list(run(held).entries())
    for start in range(0, len(entries), AT_ONCE):
        counts |= run(partial(read, entries[start : start + AT_ONCE]))
    return counts


class NoEntryCounts:
    """What programs have in the place of counters for entries of lists: they have none."""

    def entry_counts(self, wanted: WantsEntries, run: Line = at_once) -> list[EntryCounts]:
        """Nothing."""
        del wanted, run
        return []

    def entries_before(self) -> Callable[[str], bool]:
        """Tells of nothing."""
        return lambda _: False
