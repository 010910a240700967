"""Owns the file of what entries of lists have matched, which counting goes on from.

Losing it loses counts, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ipsecd.language.list_entries import entries_in
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.counters_file import MAX_COUNT, Pair
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.list_journal import key_of, text_of
from ipsecd.sources.strict_json import decode, integer, items, members, number, text

FORM = Form(
    "entry-counts",
    1,
    MAX_OWN_FILE_BYTES,
    "nothing need be done: entries of lists are counted from now on, and it is written again",
)

Counts = dict[bytes, Pair]
"""Packets and bytes of those entries that have matched anything, by ``key_of`` them."""


@dataclass(slots=True)
class KeptEntries:
    """What is kept of one list, since ``since``, in seconds since the epoch.

    An entry has matched what is in ``base`` and what its counters in the kernel hold. What these
    held when they were read last is in ``last``, by the name of what counts.
    """

    since: float
    base: Counts = field(default_factory=dict)
    last: dict[str, Counts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptLists:
    """What is kept of all lists. ``place`` is the boot and network namespace of the counters."""

    place: str = ""
    lists: Mapping[str, KeptEntries] = field(default_factory=dict)


class EntryCountsFile:
    """The file, which is always replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "entry-counts", FORM, disk)

    def save(self, content: bytes) -> None:
        """Save what ``to_json`` made; raises ``IpsecdError``."""
        self._file.save(content)

    def load(self) -> KeptLists:
        """What was saved last; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(from_json) or KeptLists()


def to_json(kept: KeptLists) -> bytes:
    """The counts as JSON, an entry a line."""
    lines = ",\n".join(_lines(kept))
    return f'{{"place": {json.dumps(kept.place)}, "lists": [\n{lines}\n]}}'.encode()


def _lines(kept: KeptLists) -> Iterator[str]:
    # Each entry by itself: the interpreter is not held while many are written.
    for name, each in kept.lists.items():
        yield json.dumps([name, each.since])
        for part, counts in (("", each.base), *each.last.items()):
            yield json.dumps([part])
            for key, pair in counts.items():
                yield json.dumps([text_of(key), *pair])


def from_json(content: bytes) -> KeptLists:
    """The inverse of ``to_json``; raises ``ValueError``."""
    whole = members(decode(content), "the whole", ("place", "lists"))
    lists: dict[str, KeptEntries] = {}
    counts: Counts = {}
    for line in items(whole["lists"], "the lists"):
        values = items(line, "a line")
        first = text(values[0] if values else None, "what begins a line")
        if len(values) == 2:
            lists[first] = KeptEntries(number(values[1], "a time"))
        elif len(values) == 1 and lists:
            kept = lists[next(reversed(lists))]
            counts = kept.last.setdefault(first, {}) if first else kept.base
        elif len(values) == 3 and lists:
            packets, size = (integer(each, "a count", 0, MAX_COUNT) for each in values[1:])
            for form, packed in entries_in(first):
                counts[key_of(form, packed)] = packets, size
        else:
            raise ValueError(f"a line has {len(values)} values where it cannot")
    return KeptLists(text(whole["place"], "the place"), lists)
