"""Owns how moments are written: whole ones, and what differed after each change.

It must not know who asks for them. Invariants:

1. Each file begins with a whole moment, so that one file is enough to know any moment in it, and
   older files can go. Until all of that is written, the file before it counts.
2. Within a file the clock goes on as clocks do. Where it was set, another file begins.
3. What is long of a moment is on disk before a record that names it.
4. Of a moment that could not be written nothing stays, so however often that fails, no more room is
   taken than before it. What a file names is bounded as the file is, since it all goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from types import MappingProxyType

from ipsecd.engine.doing import MakeDeed
from ipsecd.engine.recorder.contents import Contents
from ipsecd.engine.recorder.snapshots import (
    INVENTORY,
    LIST,
    POLICY,
    PROTECTED,
    STATE,
    Snapshot,
    all_values,
    differences,
)
from ipsecd.engine.recorder.words import what_differs
from ipsecd.sources.blobs import Blobs
from ipsecd.sources.ring import Json, Ring, is_over

FILE_BYTES = 1 << 20
"""How long a file becomes, or as long as the whole moment that it begins with once more."""
ROWS = 200
"""So many values of a whole moment are one frame: encoding them keeps nobody waiting."""
JUMP_NS = 1_000_000_000
"""By so much the clock has been set, and not only been slewed."""
START, SIZE, CLOCK, MISSED = "start", "size", "clock", "missed"
"""Why a file begins: with the recorder, after another one, with a clock that was set, and after
something could not be written."""
_BLOB = re.compile(rb'"blob":"([0-9a-f]{64})"')
Earlier = Mapping[str, tuple[object, Json]]
"""Values by their keys, with the changes that made them what they were."""
_LONG = (STATE, POLICY, PROTECTED, INVENTORY)
"""The values of which the record says since when they are as they are; lists are others."""


@dataclass(frozen=True, slots=True)
class Time:
    """A moment: nanoseconds since the epoch, and on the clock of the boot."""

    at: int
    boottime: int

    @property
    def offset(self) -> int:
        """What the clocks differ by, which changes when one is set."""
        return self.at - self.boottime


@dataclass(frozen=True, slots=True)
class Noted:
    """A change: all that decides after it, when that was, and who made it, if not the daemon.

    ``changes`` were so many one after the other that they became one, the first of them at
    ``first``.
    """

    time: Time
    snapshot: Snapshot
    make_deed: MakeDeed | None = None
    changes: int = 1
    first: int = 0


class Journal:
    """Writes moments; raises ``OSError``, after which ``begin`` goes on."""

    def __init__(self, ring: Ring, blobs: Blobs, boot: str, most_bytes: int) -> None:
        self._ring = ring
        self._blobs = blobs
        self._boot = boot
        self._most_bytes = most_bytes
        self._refs: dict[int, set[str]] = {}
        self._begins: dict[int, int] = {}
        self._since: dict[str, Json] = {}
        self._last: Json | None = None
        self._policy: Json | None = None
        self._earlier: Earlier = {}
        self._time = Time(0, 0)
        self._bytes_at_begin = self._named_at_begin = self._named_bytes = 0
        self._contents = Contents(self._put)
        self._named: set[str] = set()
        self.snapshot: Snapshot | None = None
        """What was written last; None before the first."""

    @property
    def is_open(self) -> bool:
        """Whether a change can be added."""
        return self._ring.current is not None and self.snapshot is not None

    def load(self) -> None:
        """Find what earlier processes wrote."""
        self._ring.load()
        self._blobs.load()
        for number in self._ring.numbers:
            found = (_BLOB.findall(text) for text in self._ring.raw(number))
            self._refs[number] = {digest.decode() for each in found for digest in each}
            first = self._ring.first(number) or {}
            at = first.get("at")
            self._begins[number] = at if isinstance(at, int) else 0

    def begin(
        self,
        time: Time,
        snapshot: Snapshot,
        why: str,
        oldest: int = 0,
        earlier: Earlier = MappingProxyType({}),
    ) -> None:
        """Begin a file with a whole moment; files go that end before `oldest`.

        Of values that are what they were `earlier` it is known which change made them so.
        """
        self._named, self._named_bytes = set(), 0
        self._earlier = earlier
        if why != SIZE:
            self._contents = Contents(self._put)
            self._since = {}
        head = {"kind": "begin", "at": time.at, "boottime": time.boottime, "boot": self._boot}
        number = self._ring.begin({**head, "why": why, "last": self._last})
        self._refs[number], self._begins[number] = self._named, time.at
        try:
            rows = self._rows(time, snapshot)
            while part := list(islice(rows, ROWS)):
                self._ring.add([{"kind": "part", "rows": part}])
            self._ring.add([{"kind": "whole"}], durable=True)
        except OSError:
            with suppress(OSError):
                self._drop(number)
            raise
        self._time, self.snapshot = time, snapshot
        self._bytes_at_begin = self._ring.current_size
        self._named_at_begin = self._named_bytes
        self._tidy(oldest)

    def _rows(self, time: Time, snapshot: Snapshot) -> Iterator[list[object]]:
        state = snapshot.state
        self._policy = self._contents.policy(state.compiled, snapshot.named_addresses)
        yield [POLICY, self._policy, *self._since_of(POLICY, self._policy, time)]
        for key, value in all_values(snapshot):
            yield [key, value, *(self._since_of(key, value, time) if key in _LONG else ())]
        for name, addresses in state.lists.items():
            key, value = LIST + name, self._contents.whole(name, addresses)
            self._name(str(value["blob"]))
            yield [key, value, *self._since_of(key, value, time)]

    def _since_of(self, key: str, value: object, time: Time) -> list[object]:
        """The change that made a value what it is, as far as that is known."""
        if key not in self._since:
            was, change = self._earlier.get(key, (None, {}))
            is_same = bool(change) and was == value
            self._since[key] = dict(change) if is_same else {"at": time.at, "known": False}
        return [self._since[key]]

    def add(self, noted: Sequence[Noted], oldest: int = 0) -> None:
        """Add changes, in their order, as one frame for each stretch of an unbroken clock."""
        records: list[Json] = []
        for each in noted:
            if abs(each.time.offset - self._time.offset) > JUMP_NS:
                self._end_by_old_clock(records, each.time)
                records = []
                self.begin(each.time, each.snapshot, CLOCK, oldest)
                continue
            if record := self._record(each):
                records.append(record)
            self._time, self.snapshot = each.time, each.snapshot
        if records:
            self._ring.add(records)
        is_long = self._ring.current_size > max(FILE_BYTES, 2 * self._bytes_at_begin)
        names_much = self._named_bytes > self._named_at_begin + self._most_bytes // 4
        if (is_long or names_much) and self.snapshot:
            self.begin(self._time, self.snapshot, SIZE, oldest)
        elif self._size > self._most_bytes:
            self._tidy(oldest)

    def _end_by_old_clock(self, records: list[Json], time: Time) -> None:
        """Say until when the clock went on that has been set since."""
        at = self._time.offset + time.boottime
        self._ring.add([*records, {"kind": "alive", "at": at, "boottime": time.boottime}])

    def alive(self, time: Time, oldest: int = 0) -> None:
        """Say that nothing else has changed until now, and have all of it on disk."""
        if self.snapshot and abs(time.offset - self._time.offset) > JUMP_NS:
            self._end_by_old_clock([], time)
            self.begin(time, self.snapshot, CLOCK, oldest)
            return
        record: Json = {"kind": "alive", "at": time.at, "boottime": time.boottime}
        self._ring.add([record], durable=True)
        self._time = time
        self._tidy(oldest)

    def end(self, time: Time, left: str) -> None:
        """Say that the daemon ends, and in a word what it leaves in force."""
        at, boottime = time.at, time.boottime
        self._ring.add(
            [{"kind": "end", "at": at, "boottime": boottime, "left": left}], durable=True
        )
        self._ring.give_up()

    def _record(self, noted: Noted) -> Json | None:
        """What differs from before; None if nothing does that decides."""
        before, now = self.snapshot, noted.snapshot
        assert before is not None
        put: dict[str, object] = {}
        drop: list[str] = []
        for key, value in differences(before, now):
            if value is None:
                drop.append(key)
            else:
                put[key] = value
        if before.state.compiled is not now.state.compiled:
            policy = self._contents.policy(now.state.compiled, now.named_addresses)
            if policy != self._policy:
                put[POLICY] = self._policy = policy
        edits: dict[str, object] = {}
        for name, value, is_difference in self._contents.lists(before.state, now.state):
            if value is None:
                drop.append(LIST + name)
            else:
                (edits if is_difference else put)[LIST + name] = value
        if not (put or drop or edits):
            return None
        what = what_differs(before, now, put, drop, edits)
        change = self._change(noted, what, has_policy=POLICY in put)
        for key in (*put, *edits):
            if key in _LONG or key.startswith(LIST):
                self._since[key] = change
        self._last = change
        return {"kind": "change", **change, "put": put, "drop": drop, "edits": edits}

    def _change(self, noted: Noted, differs: list[str], *, has_policy: bool) -> Json:
        """A change, with what its author said of it, or else in words what `differs`."""
        deed = noted.make_deed() if noted.make_deed else None
        what = list(deed.what) if deed else []
        what += differs if has_policy or not what else []
        return {
            "at": noted.time.at,
            "boottime": noted.time.boottime,
            "first": noted.first or noted.time.at,
            "changes": noted.changes,
            "known": True,
            "source": deed.source if deed else "daemon",
            "method": deed.method if deed else "",
            "message": deed.message if deed else "",
            "author": asdict(deed.author) if deed else None,
            "what": what,
        }

    def _put(self, content: bytes) -> str:
        digest = self._blobs.put(content)
        self._name(digest)
        return digest

    def _name(self, digest: str) -> None:
        """Have the file that is written name a content."""
        if digest not in self._named:
            self._named.add(digest)
            self._named_bytes += self._blobs.length(digest)

    @property
    def _size(self) -> int:
        """How long everything is that the record has on disk, in bytes."""
        return self._ring.size + self._blobs.size

    def _tidy(self, oldest: int) -> None:
        """Delete what is too old or too much, the oldest first."""
        with suppress(OSError):
            self._drop_unnamed()
            while len(numbers := self._ring.numbers) > 1 and (
                is_over([self._begins[number] for number in numbers], self._time.at, oldest)
                or self._size > self._most_bytes
            ):
                self._drop(numbers[0])

    def _drop(self, number: int) -> None:
        """Delete a file, and what it alone names."""
        self._ring.drop(number)
        del self._refs[number], self._begins[number]
        self._drop_unnamed()

    def _drop_unnamed(self) -> None:
        self._blobs.drop_all_but(set().union(*self._refs.values()))
