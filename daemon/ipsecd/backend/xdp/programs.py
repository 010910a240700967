"""Owns the loaded programs and their maps, and the state by which they judge.

It must not know interfaces: what is loaded here judges nothing until it is attached. Invariants:

1. The state is replaced as a whole, by one update of the map that holds it. A packet takes it once.
2. The images of a policy are never written to after they were put in force.
3. There are no shortcuts while the state is replaced, and none for an entry before it is written.
4. Several entries of dynamic rules come and go together: they bear the generation of the state from
   or until which they count, and one write makes the next generation the present one.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.base import Count
from ipsecd.backend.failures import not_taken
from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.counters import Counters
from ipsecd.backend.xdp.entries import DynamicEntries
from ipsecd.backend.xdp.images import Image, next_image
from ipsecd.backend.xdp.lines import host_lines
from ipsecd.backend.xdp.loading import LoadedFile
from ipsecd.backend.xdp.origins import put_origins
from ipsecd.backend.xdp.program import DynamicTable, state_lines
from ipsecd.backend.xdp.shortcuts import Shortcuts, shortcuts
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Entry, Volatile
from ipsecd.errors import LimitExceeded
from ipsecd.model.packets import Host, Point
from ipsecd.model.values import Origin

OBJECT = Path(__file__).with_name("ipsecd.bpf.o")

MAPS = (
    *("state", "images", "hosts", "shortcuts", "dynamic_ipv4", "dynamic_ipv6"),
    *("counters", "origins", "parsing", "datagrams"),
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
        self.max_rules = rules + max(SPARE_RULES, rules // 4)
        self._file = LoadedFile(path, (*MAPS, *more_maps), self.max_rules)
        self.maps, self.max_steps = self._file.maps, self._file.max_steps
        self._counters = Counters(self.maps["counters"], self.maps["parsing"])
        self._entries = DynamicEntries(self.maps["dynamic_ipv4"], self.maps["dynamic_ipv6"])
        self._rule_numbers: dict[Origin, int] = {}
        self._first_new_number = 0
        self._table_numbers: dict[TableId, int] = {}
        self._next_table = 1
        self._image = Image(0)
        self._image_ids: dict[int, int] = {}
        self._state: mmap.mmap | None = None
        self._state_bytes = b""
        self._state_id = 0
        self._volatile = Volatile()
        self._host_bytes = b""
        self._host: Host | None = None
        self._first_host = 0
        self._hosts = libbpf.map_lines(self.maps["hosts"], 2 * abi.FAMILIES * abi.HOST_LINES)
        self._shortcuts = Shortcuts(
            libbpf.map_lines(self.maps["shortcuts"], abi.SHORTCUT_LINES + 1)
        )
        self._generation = 1
        self._classifier: Classifier | None = None
        self.points: frozenset[Point] = frozenset(Point)
        self._points_in_force = self.points

    def pin(self, directory: Path) -> None:
        """Pin the maps, so that what they hold can be found by the next process."""
        self._file.pin(directory)

    def program(self, name: str) -> int:
        """A program by name: one of HOOKS, "_", and one of KINDS."""
        return self._file.program(name)

    def restore_counts(self, counts: Mapping[Origin, Count]) -> None:
        """Go on counting from what the rules had counted before."""
        for origin, count in counts.items():
            number = self._rule_numbers.get(origin)
            if number is not None:
                self._counters.set_rule(number, count)

    def close(self) -> None:
        """Close every descriptor; what is pinned or attached lives on."""
        self._hosts.close()
        self._shortcuts.close()
        if self._state is not None:
            self._state.close()
        self._file.close()

    # -- whole states ----------------------------------------------------------------------------

    def has_room(self, classifier: Classifier) -> bool:
        """Whether there are counters enough for the rules of `classifier` and those in force."""
        return len(self._rule_numbers.keys() | classifier.origins) <= self.max_rules

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Judge by `classifier` and the dynamic rules from the next packet on."""
        numbers = self._rule_numbers
        self._rule_numbers = self._number_rules(classifier)
        try:
            tables = self._numbered_tables(table.id for table in volatile.tables)
            if self._classifier is None:
                for entry in volatile.entries():
                    self._write(entry, tables[entry.table], 0)
            self._switch(classifier, volatile, tables)
        except BaseException:
            self._rule_numbers = numbers
            raise
        # Without this the next process would count on for a new rule with a removed one's name.
        if numbers.keys() - self._rule_numbers.keys():
            with suppress(OSError):
                put_origins(self.maps["origins"], self._rule_numbers)

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
        next_generation = self._generation + 1
        written: list[Entry] = []
        ending: list[Entry] = []
        try:
            for entry in delta.added:
                in_place = (entry.table, entry.key) in renewed
                self._write(entry, numbers[entry.table], 0 if in_place else next_generation)
                if not in_place:
                    written.append(entry)
            for entry in gone:
                ending.append(entry)
                self._write(entry, numbers[entry.table], 0, until=next_generation)
            self._generation = next_generation
            if reshaped:
                assert self._classifier is not None
                self._switch(self._classifier, volatile, numbers)
            else:
                self._write_into_heads(abi.GENERATION_OFFSET, struct.pack("=Q", next_generation))
        except BaseException:
            self._generation = next_generation - 1
            for entry in written:
                self._entries.erase(entry, numbers[entry.table])
            for entry in (*ending, *(e for e in delta.removed if (e.table, e.key) in renewed)):
                self._write(entry, numbers[entry.table], 0)
            raise
        # They no longer count. An entry that cannot be erased stays without an effect.
        with suppress(OSError):
            for entry in gone:
                self._entries.erase(entry, numbers[entry.table])

    def set_host(self, host: Host) -> bool:
        """Take the addresses of `host` as those of this host; returns whether they have changed."""
        if host == self._host:
            return False
        content = host_lines(host.addresses, host.broadcasts)
        # The half of the map that is written now may have been in force until a moment ago.
        wait_for_packets()
        self._first_host = 0 if self._first_host else abi.FAMILIES * abi.HOST_LINES
        at = self._first_host * abi.LINE
        self._hosts[at : at + len(content)] = content
        self._host_bytes, self._host = content, host
        if self._state is not None:
            self._write_into_heads(abi.FIRST_HOST_OFFSET, struct.pack("=I", self._first_host))
        self._shortcuts.set_first_host(self._first_host)
        return True

    # -- reading back ----------------------------------------------------------------------------

    def counts(self) -> dict[Origin, Count]:
        """What every rule of the policy has matched."""
        return {
            origin: self._counters.of_rule(number) for origin, number in self._rule_numbers.items()
        }

    def volatile_counts(self) -> dict[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched."""
        counts = {}
        for entry in self._volatile.entries():
            count = self._entries.count(entry, self._table_numbers[entry.table])
            if count is not None:
                counts[entry.table, entry.key] = count
        return counts

    def parse_results(self) -> dict[str, int]:
        """How many frames could not be read as packets, by what was wrong with them."""
        return self._counters.parse_results()

    def digest(self) -> str | None:
        """The digest that the state in force bears, None if there is none."""
        content = self._state_in_force()
        if not content:
            return None
        at = abi.MARK_LINE * abi.LINE
        return content[at : at + 32].hex()

    def drift(self) -> list[str]:
        """One sentence for each way in which the maps are not what was written to them."""
        differences = []
        if self._state_in_force() != self._state_bytes:
            differences.append("the steps in map state were changed")
        if any(
            self._inner_id("images", slot) != image_id for slot, image_id in self._image_ids.items()
        ):
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
        self, classifier: Classifier, volatile: Volatile, tables: dict[TableId, int]
    ) -> None:
        """Replace the state by the one of `classifier` and the tables of `volatile`."""
        table_numbers = {table.id: tables[table.id] for table in volatile.tables}
        dynamic = [DynamicTable(table, number) for table, number in table_numbers.items()]
        image = next_image(self._image, classifier)
        lines = state_lines(
            classifier,
            dynamic,
            image,
            self._rule_numbers,
            points=self.points,
            alone=self._alone,
            max_steps=self.max_steps,
            first_host=self._first_host,
            generation=self._generation,
        )
        if image.is_needed:
            self._put_image(image)
        words = shortcuts(classifier, volatile.tables, self._rule_numbers, self.points)
        self._shortcuts.clear()
        try:
            self._replace_state(lines)
        except BaseException:
            self._clear_image(image.slot)
            raise
        self._table_numbers, self._image, self._classifier = table_numbers, image, classifier
        self._points_in_force = self.points
        self._volatile = volatile
        self._shortcuts.set(words, classifier.digest)
        image.chunks.clear()
        # No packet uses an old image any more: the update of an outer map waits for such packets.
        for slot in self._image_ids.keys() - image.slots:
            self._clear_image(slot)

    def _put_image(self, image: Image) -> None:
        """Put an image into its slot, which no step names yet."""
        try:
            descriptor = libbpf.create_lines("ipsecd_image", b"".join(image.chunks), freeze=True)
            try:
                number = libbpf.map_info(descriptor).id
                self._put_inner_map("images", image.slot, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise not_taken(error.strerror) from error
        self._image_ids[image.slot] = number

    def _replace_state(self, lines: bytes) -> None:
        """Have packets judged by new lines; whatever can fail comes before the change."""
        memory = None
        try:
            descriptor = libbpf.create_lines("ipsecd_state", lines, freeze=False)
            try:
                memory = libbpf.map_lines(descriptor, len(lines) // abi.LINE)
                number = libbpf.map_info(descriptor).id
                self._put_inner_map("state", 0, descriptor)
            finally:
                os.close(descriptor)
        except BaseException as error:
            if memory is not None:
                memory.close()
            if isinstance(error, OSError):
                raise not_taken(error.strerror) from error
            raise
        old, self._state = self._state, memory
        self._state_bytes, self._state_id = lines, number
        if old is not None:
            old.close()

    def _put_inner_map(self, outer: str, slot: int, descriptor: int) -> None:
        """Put an inner map into a slot of an outer one."""
        libbpf.update(self.maps[outer], struct.pack("=I", slot), struct.pack("=I", descriptor))

    def _clear_image(self, slot: int) -> None:
        """Free an image that no step names; if that fails, the next image replaces it."""
        if self._image_ids.pop(slot, None) is not None:
            with suppress(OSError):
                libbpf.delete(self.maps["images"], struct.pack("=I", slot))

    def _write_into_heads(self, offset: int, value: bytes) -> None:
        """Write a number into the heads of all points; a packet reads one of them, once."""
        assert self._state is not None
        content = bytearray(self._state_bytes)
        for head in range(abi.HEADS):
            at = head * abi.LINE + offset
            self._state[at : at + len(value)] = value
            content[at : at + len(value)] = value
        self._state_bytes = bytes(content)

    def _numbered_tables(self, tables: Iterable[TableId]) -> dict[TableId, int]:
        numbers = dict(self._table_numbers)
        for table in tables:
            if table not in numbers:
                numbers[table] = self._next_table
                self._next_table += 1
        return numbers

    def _number_rules(self, classifier: Classifier) -> dict[Origin, int]:
        """The number of every rule; new ones get numbers that nothing in force uses."""
        origins = classifier.origins
        numbers = {o: n for o, n in self._rule_numbers.items() if o in origins}
        new = sorted(origins - numbers.keys())
        if not new:
            return numbers
        used = set(self._rule_numbers.values())
        free = (number for number in range(self.max_rules) if number not in used)
        numbers.update(zip(new, free, strict=False))
        if len(numbers) < len(origins):
            raise LimitExceeded(
                f"the policies of before and after have more than {self.max_rules} rules",
                "change the policy in several steps",
            )
        try:
            for number in (numbers[origin] for origin in new):
                # A number that no rule has had yet has a counter of zero.
                if number < self._first_new_number:
                    self._counters.set_rule(number, Count())
            put_origins(self.maps["origins"], {**self._rule_numbers, **numbers})
        except OSError as error:
            raise not_taken(error.strerror) from error
        self._first_new_number = max(self._first_new_number, 1 + max(numbers.values()))
        return numbers

    def _write(self, entry: Entry, table: int, since: int, *, until: int = abi.FOREVER) -> None:
        self._shortcuts.forget(entry.table, entry.key)
        self._entries.write(entry, table, since, until=until)

    def _inner_id(self, outer: str, slot: int) -> int:
        value = libbpf.look_up(self.maps[outer], struct.pack("=I", slot), 4)
        return int(struct.unpack("=I", value)[0]) if value else 0

    def _state_in_force(self) -> bytes:
        """The lines that packets are judged by; empty if they are not ours."""
        if self._state is None or self._inner_id("state", 0) != self._state_id:
            return b""
        return self._state[: len(self._state_bytes)]
