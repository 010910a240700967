"""Owns the loaded programs and their maps, and the state by which they judge.

It must not know interfaces: what is loaded here judges nothing until it is attached. Invariants:

1. The state is replaced as a whole, by one update of the map that holds it. A packet takes it once.
2. The images of a policy are never written to after they were put in force, but for the ranges of
   lists. These are edited only where somebody else judges what the programs let pass: they let all
   pass meanwhile, from before the first packet that could see half an edit.
3. There are no shortcuts while the state is replaced, and none for an entry before it is written.
4. Several entries of dynamic rules come and go together: they bear the generation of the state from
   or until which they count, and one write makes the next generation the present one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ipsecd.backend.base import Count, Line
from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.counters import Counters
from ipsecd.backend.xdp.early import EarlyLines, new_image
from ipsecd.backend.xdp.entries import DynamicEntries
from ipsecd.backend.xdp.exchange import exchange
from ipsecd.backend.xdp.host_lines import HostLines
from ipsecd.backend.xdp.image_slots import ImageSlots
from ipsecd.backend.xdp.images import Image, next_image
from ipsecd.backend.xdp.list_edits import ListPlan, carry_out, plan
from ipsecd.backend.xdp.loading import LoadedFile
from ipsecd.backend.xdp.numbering import Numbers, RuleNumbers
from ipsecd.backend.xdp.program import DynamicTable, state_lines
from ipsecd.backend.xdp.shortcuts import Shortcuts, shortcuts
from ipsecd.backend.xdp.state_map import StateMap, without_steps
from ipsecd.compiler.classifier import Classifier, HasTableId
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Entry, Volatile
from ipsecd.model.packets import Host, Point
from ipsecd.model.values import Origin
from ipsecd.progress import Tell

OBJECT = Path(__file__).with_name("ipsecd.bpf.o")

MAPS = (
    *("state", "images", "hosts", "shortcuts", "dynamic_ipv4", "dynamic_ipv6"),
    *("counters", "origins", "parsing", "datagrams", "reporting", "drops", "reports"),
)
KINDS = ("lan", "lan_bare", "dialup", "dialup_bare")
HOOKS = ("receive", "arrive", "leave")
SPARE_RULES = 1024
COMPARED_ENTRIES = 4096


class Programs:
    """One set of maps, and the programs that read them."""

    def __init__(
        self,
        rules: int = 0,
        path: Path = OBJECT,
        more_maps: tuple[str, ...] = (),
        *,
        alone: bool = True,
    ) -> None:
        """Load for `rules` rules of policies and some that come later. Raises ``BackendFailed``.

        `path` may be an object file with these and more programs, and with `more_maps`. `alone`
        says that nobody else judges what they let pass.
        """
        self._alone = alone
        self.edits_lists = not alone
        """Whether lists are edited in place: not where packets pass unjudged meanwhile."""
        self.max_rules = rules + max(SPARE_RULES, rules // 4)
        self._file = LoadedFile(path, (*MAPS, *more_maps), self.max_rules)
        self.maps, self.max_steps = self._file.maps, self._file.max_steps
        self._counters = Counters(self.maps["counters"], self.maps["parsing"])
        self._entries = DynamicEntries(self.maps["dynamic_ipv4"], self.maps["dynamic_ipv6"])
        self.rules = RuleNumbers(self.maps["origins"], self._counters, self.max_rules)
        self._table_numbers: dict[TableId, int] = {}
        self._next_table = 1
        self._image = Image(0)
        self._images = ImageSlots(self.maps["images"])
        self._state = StateMap(self.maps["state"])
        self._volatile = Volatile()
        self._host_lines, self._host_bytes = HostLines(), b""
        self._host: Host | None = None
        self._first_host = 0
        try:
            self._hosts = libbpf.map_lines(self.maps["hosts"], 2 * abi.FAMILIES * abi.HOST_LINES)
            words = libbpf.map_lines(self.maps["shortcuts"], abi.SHORTCUT_LINES + 1)
        except BaseException:
            self._file.close()
            raise
        self._shortcuts = Shortcuts(words)
        self._generation = 1
        self._classifier: Classifier | None = None
        self.points: frozenset[Point] = frozenset(Point)
        self._points_in_force = self.points
        self._early: EarlyLines | None = None

    def pin(self, directory: Path) -> None:
        """Pin the maps, so that what they hold can be found by the next process."""
        self._file.pin(directory)

    def program(self, name: str) -> int:
        """A program by name: one of HOOKS, "_", and one of KINDS."""
        return self._file.program(name)

    def close(self) -> None:
        """Close every descriptor; what is pinned or attached lives on."""
        self.discard()
        self._images.close()
        self._hosts.close()
        self._shortcuts.close()
        self._state.close()
        self._file.close()

    @property
    def tables(self) -> list[HasTableId]:
        """All tables of the state in force."""
        policy = self._classifier.tables if self._classifier else ()
        return [*policy, *self.volatile.tables]

    @property
    def volatile(self) -> Volatile:
        """The dynamic rules that were written last."""
        return self._volatile

    # -- whole states ----------------------------------------------------------------------------

    def has_room(self, classifier: Classifier) -> bool:
        """Whether there are counters enough for the rules of `classifier` and those in force."""
        return self.rules.have_room(classifier.origins)

    def prepare(
        self, classifier: Classifier, points: frozenset[Point], run: Line, tell: Tell
    ) -> None:
        """Write the lines of `classifier` for `points` to memory, for ``apply`` to take.

        This runs in another thread than all else, which is done with `run`. Raises
        ``BackendFailed`` or ``LimitExceeded``.
        """
        rules = self.rules.following(classifier.origins)
        image, lists = run(lambda: (self._image, self._plan(classifier, rules.numbers, points)))
        early = EarlyLines(next_image(image, classifier, lists.ranges), rules, lists)
        run(lambda: self._begin_early(early, image))
        try:
            early.reset_counters(self.rules, run)
            early.make(classifier, points, tell)
        finally:
            run(early.hand_over)

    def _begin_early(self, early: EarlyLines, image: Image) -> None:
        """Keep what is being made; not if the state that it would follow has been replaced."""
        self.discard()
        self._early = early
        if image is not self._image or self._file.is_closed:
            self.discard()

    def discard(self) -> None:
        """Free what was prepared and has not been applied."""
        early, self._early = self._early, None
        if early:
            early.give_up()

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Judge by `classifier` and the dynamic rules from the next packet on."""
        is_other = classifier is not self._classifier
        early = self._early if is_other else None
        early = early if early and early.suits(classifier) else None
        reserved = early.rules if early else None
        rules = self.rules.following(classifier.origins, reserved)
        self.rules.reset(self.rules.used(rules, reserved))
        self.rules.announce(rules)
        tables = self._numbered_tables(table.id for table in volatile.tables)
        delta = self._volatile.difference(volatile)
        switch = partial(self._switch, classifier, volatile, tables, rules.numbers, early)
        self._with_entries(delta, tables, switch)
        self.rules.replace(rules)
        if is_other:
            self.discard()

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Let every packet pass to whoever judges after this, until an error or ``apply``."""
        before = self._state.lines
        self._shortcuts.clear()
        self._state.write_into_heads(abi.STEPS_OFFSET, bytes(4))
        try:
            yield
        except BaseException:
            self._state.restore_heads(before)
            if policy := self._classifier:
                tables, rules = self._volatile.tables, self.rules.in_force
                words = shortcuts(policy, tables, rules, self._points_in_force)
                self._shortcuts.set(words, policy.digest)
            raise

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Add and remove dynamic entries, at a cost that does not depend on how many there are.

        Raises ``LimitExceeded`` or ``BackendFailed``, and then nothing has changed.
        """
        self._change(delta, volatile)
        self._volatile = volatile

    def _change(self, delta: Delta, volatile: Volatile) -> None:
        tables = {table.id for table in volatile.tables}
        reshaped = tables != self._table_numbers.keys() or self.points != self._points_in_force
        if not delta.added and not delta.removed and not reshaped:
            return
        numbers = self._numbered_tables(tables)
        renewed = delta.renewed
        gone = [e for e in delta.removed if (e.table, e.key) not in renewed]
        if len(delta.added) + len(gone) == 1 and not reshaped:
            for entry in delta.added:
                self._write(entry, numbers[entry.table], 0)
            for entry in gone:
                self._entries.erase(entry, numbers[entry.table])
            return
        switch = self._begin_generation
        if reshaped:
            assert self._classifier is not None
            in_force = self._classifier, volatile, numbers, self.rules.in_force
            switch = partial(self._switch, *in_force)
        self._with_entries(delta, numbers, switch)

    def _begin_generation(self) -> None:
        generation = struct.pack("=Q", self._generation)
        self._state.write_into_heads(abi.GENERATION_OFFSET, generation)

    def _with_entries(
        self, delta: Delta, numbers: dict[TableId, int], switch: Callable[[], None]
    ) -> None:
        """Do `switch`, and have entries come and go by it; if it raises, they are as before."""
        if not delta:
            switch()
            return
        before = self._generation

        def begin() -> None:
            self._generation = before + 1
            switch()

        def write(entry: Entry, since: int, until: int) -> None:
            self._write(entry, numbers[entry.table], since, until)

        try:
            exchange(delta, before + 1, write, begin, self._entries.eraser(numbers))
        except BaseException:
            self._generation = before
            raise

    def set_host(self, host: Host) -> bool:
        """Take the addresses of `host` as those of this host; returns whether they have changed."""
        if host == self._host:
            return False
        content = self._host_lines.of(host)
        # The half of the map that is written now may have been in force until a moment ago.
        wait_for_packets()
        self._first_host = 0 if self._first_host else abi.FAMILIES * abi.HOST_LINES
        at = self._first_host * abi.LINE
        self._hosts[at : at + len(content)] = content
        self._host_bytes, self._host = content, host
        self._state.write_into_heads(abi.FIRST_HOST_OFFSET, struct.pack("=I", self._first_host))
        self._shortcuts.set_first_host(self._first_host)
        return True

    # -- reading back ----------------------------------------------------------------------------

    def counts(self) -> dict[Origin, Count]:
        """What every rule of the policy has matched."""
        return self.rules.counts()

    def take_ended(self) -> dict[Origin, Count]:
        """What rules had matched that have left; each is told once."""
        return self.rules.take_ended()

    def entry_counts(self, entries: Iterable[Entry]) -> dict[tuple[TableId, bytes], Count]:
        """What those of `entries` have matched that are there."""
        numbers = self._table_numbers
        known = (entry for entry in entries if entry.table in numbers)
        counts = ((entry, self._entries.count(entry, numbers[entry.table])) for entry in known)
        return {(entry.table, entry.key): count for entry, count in counts if count is not None}

    def parse_results(self) -> dict[str, int]:
        """How many frames could not be read as packets, by what was wrong with them."""
        return self._counters.parse_results()

    def digest(self) -> str | None:
        """The digest that the state in force bears, None if there is none."""
        content = self._state.in_force()
        if not content:
            return None
        at = abi.MARK_LINE * abi.LINE
        return content[at : at + 32].hex()

    def drift(self) -> list[str]:
        """One sentence for each way in which the maps are not what was written to them."""
        differences = []
        if self._state.in_force() != self._state.lines:
            differences.append("the steps in map state were changed")
        if self._images.are_changed():
            differences.append("map images was changed")
        at = self._first_host * abi.LINE
        if self._hosts[at : at + len(self._host_bytes)] != self._host_bytes:
            differences.append("map hosts was changed")
        if self._shortcuts.are_changed():
            differences.append("map shortcuts was changed")
        entries = list(self._volatile.entries())
        if len(entries) <= COMPARED_ENTRIES and not all(
            self._entries.holds(entry, self._table_numbers[entry.table]) for entry in entries
        ):
            differences.append("the dynamic entries were changed")
        return differences

    # -- inside ----------------------------------------------------------------------------------

    def _switch(
        self,
        classifier: Classifier,
        volatile: Volatile,
        tables: dict[TableId, int],
        rules: Numbers,
        early: EarlyLines | None = None,
    ) -> None:
        """Replace the state by the one of `classifier` and the tables of `volatile`.

        Lines that are there `early` are taken, if there is room for what they lack.
        """
        table_numbers = {table.id: tables[table.id] for table in volatile.tables}
        dynamic = [DynamicTable(table, number) for table, number in table_numbers.items()]
        loaded = early if early and early.image.is_needed else None
        encoded = partial(
            state_lines,
            classifier,
            dynamic,
            rules=rules,
            points=self.points,
            alone=self._alone,
            max_steps=self.max_steps,
            first_host=self._first_host,
            generation=self._generation,
        )
        lists = self._plan(classifier, rules, self.points, early.plan if early else None)
        following = partial(next_image, self._image, classifier, lists.ranges)
        image = following(loaded.image if loaded else None)
        lines = encoded(image)
        if loaded and not loaded.has_room(image):
            image, loaded = following(None), None
            lines = encoded(image)
        if image.is_needed:
            self._images.put(image, loaded.finish(image) if loaded else new_image(image))
        words = shortcuts(classifier, volatile.tables, rules, self.points)
        self._shortcuts.clear()
        edits = lists.due_for(image)
        writing = any(edit.writes for edit in edits)
        try:
            self._state.replace(without_steps(lines) if writing else lines)
        except BaseException:
            self._images.clear(image.slot)
            raise
        if writing:
            wait_for_packets()
        carry_out(edits, self._images.memory)
        self._state.restore_heads(lines)
        self._table_numbers, self._image, self._classifier = table_numbers, image, classifier
        self._points_in_force = self.points
        self._volatile = volatile
        self._shortcuts.set(words, classifier.digest)
        image.chunks.clear()
        # No packet uses an old image any more: the update of an outer map waits for such packets.
        self._images.keep(image.slots)

    def _plan(
        self,
        classifier: Classifier,
        rules: Numbers,
        points: frozenset[Point],
        earlier: ListPlan | None = None,
    ) -> ListPlan:
        """Which ranges of lists stay for `classifier`, and how each is edited for it."""
        now, in_place = (self._image, self._images.memory), self.edits_lists
        return plan(classifier, rules, points, *now, earlier=earlier, in_place=in_place)

    def _numbered_tables(self, tables: Iterable[TableId]) -> dict[TableId, int]:
        numbers = dict(self._table_numbers)
        for table in tables:
            if table not in numbers:
                numbers[table] = self._next_table
                self._next_table += 1
        return numbers

    def _write(self, entry: Entry, table: int, since: int, until: int = abi.FOREVER) -> None:
        self._shortcuts.forget(entry.table, entry.key)
        self._entries.write(entry, table, since, until=until)
