"""Owns the counters in the table: what each rule and dynamic entry has matched.

A counter that goes is read a last time when no packet can see it any more. What entries of dynamic
rules had counted in a set that is replaced is added to what they count in the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType

from ipsecd.backend.base import UNREADABLE, Count, Line, Readings, sum_of
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import UNPARSABLE, counter_name, stem, table_key
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.wire import NftSocket
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry
from ipsecd.model.values import Origin

EntryCounts = dict[tuple[TableId, bytes], Count]
Ended = tuple[dict[str, dict[str, Count]], dict[str, Origin]]
"""What counter objects held in the end, by part and name; and the rules that they counted for."""
READING_TRIES = 3
"""How often a set is read that others change meanwhile: of one that is banned into all the time
there may be no reading at one moment."""
MOST_INHERITED = 20_000
"""Up to how many dynamic entries go on counting where their sets are replaced: to read more takes
longer than others should wait."""
NO_COUNT = Count()
NOTHING: Mapping[TableId, KernelTable] = MappingProxyType({})


class TableCounters:
    """The counters of one table, and what those held that have gone."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._origins: dict[str, Origin] = {}
        self._ended: dict[str, dict[str, Count]] = {}
        self._ended_origins: dict[str, Origin] = {}
        self._ends = 0
        self._inherited: EntryCounts = {}
        self.inherits = True
        """Whether entries go on counting where their sets are replaced."""

    def begin(self, origins: Iterable[Origin]) -> None:
        """Take note of rules that are put in force: nobody may ask for them before they go."""
        self._origins.update((counter_name(origin), origin) for origin in origins)

    def unparsable(self) -> int:
        """How many packets were dropped because their headers could not be read."""
        return self._reader.counters().get(UNPARSABLE, Count()).packets

    def readings(
        self,
        in_force_now: Callable[[], Classifier | None],
        known: Iterable[Origin],
        run: Line = at_once,
    ) -> Readings:
        """What counters of rules in force and `known` ones hold, and what those held that went.

        They are read in the thread that asks: of many rules that takes longer than others should
        wait. Only if something else was put in force meanwhile it is done in the kernel's line.
        """
        begun = run(lambda: (self._ends, self._part()))
        aside = _read_aside()

        def take() -> tuple[str, list[bytes], Ended, Classifier | None]:
            part = self._part()
            is_of_now = aside is not None and (self._ends, part) == begun
            bodies = aside if is_of_now and aside is not None else self._reader.raw_counters()
            ended, self._ended = self._ended, {}
            origins, self._ended_origins = self._ended_origins, {}
            return part, bodies, (ended, origins), in_force_now()

        part, bodies, (ended, ended_origins), classifier = run(take)
        in_force = classifier.origins if classifier else frozenset[Origin]()
        counters = self._reader.counters_in(bodies)
        # Also what could not be deleted yet: it ends later.
        names = _names(in_force.union(known))
        now = _by_origin(counters, names)
        if UNPARSABLE in counters:
            now[UNREADABLE] = counters[UNPARSABLE]
        return Readings(
            {part: now},
            {name: _by_origin(counts, ended_origins | names) for name, counts in ended.items()},
        )

    def of_entries(self, dynamic: Callable[[], Mapping[TableId, KernelTable]]) -> EntryCounts:
        """What every entry of `dynamic` tables has matched, from the counters of its element.

        A socket of its own reads them, in the thread that asks: long sets keep nobody waiting who
        changes them. `dynamic` is called in the kernel's line.
        """
        counts: EntryCounts = {}
        with closing(NftSocket()) as socket:
            reader = TableReader(socket)
            for table, kernel in dynamic().items():
                for key, count in reader.elements(kernel.set_name, READING_TRIES):
                    counts[table, table_key(table, key)] = count
        return {key: count + self._inherited.get(key, NO_COUNT) for key, count in counts.items()}

    @contextmanager
    def ending(
        self,
        kept: AbstractSet[str] = frozenset(),
        dynamic: Mapping[TableId, KernelTable] = NOTHING,
        sets: Iterable[str] = (),
    ) -> Iterator[None]:
        """Keep what those counters hold that the block deletes: all but those that are `kept`.

        Of the `sets` that it deletes those matter which held entries of tables that are in force as
        `dynamic`. If the block raises, they are still there.
        """
        part, present = self._part(), self._reader.counters()
        rules = {name: count for name, count in present.items() if name not in kept}
        tables = {stem(kernel.set_name): table for table, kernel in dynamic.items()}
        entries: EntryCounts = {}
        for name in sets if self.inherits else ():
            if table := tables.get(stem(name)):
                elements = self._reader.elements(name)
                entries |= {
                    (table, table_key(table, key)): count
                    for key, count in elements
                    if count.packets
                }
        yield
        self._ends += 1
        self._ended[part] = sum_of(self._ended.get(part, {}), rules)
        for name in self._origins.keys() & rules.keys():
            self._ended_origins[name] = self._origins.pop(name)
        self._inherited = sum_of(self._inherited, entries) if dynamic else {}

    def forget(self, removed: Iterable[Entry]) -> None:
        """Have entries that were removed count from nothing if they come back."""
        if self._inherited:
            for entry in removed:
                self._inherited.pop((entry.table, entry.key), None)

    def _part(self) -> str:
        """What counts: this table, and not one of its name before it."""
        return f"nftables {self._reader.handle()}"


def _read_aside() -> list[bytes] | None:
    """All counters, by a socket of its own; None if a change interrupted it."""
    with suppress(OSError), closing(NftSocket()) as socket:
        return TableReader(socket).raw_counters_once()
    return None


def counter_names(early: Iterable[Origin], classifier: Classifier | None) -> set[str]:
    """The counters of rules that are loaded `early`, and of those in force, if there are any."""
    names = set(map(counter_name, early))
    return names | {UNPARSABLE, *map(counter_name, classifier.origins)} if classifier else names


def _names(origins: Iterable[Origin]) -> dict[str, Origin]:
    """Rules by the names of their counter objects."""
    return {counter_name(origin): origin for origin in origins}


def _by_origin(counts: Mapping[str, Count], names: Mapping[str, Origin]) -> dict[Origin, Count]:
    """The counts of counter objects by the rules that they count for, of those in `names`."""
    return {origin: counts[name] for name, origin in names.items() if name in counts}
