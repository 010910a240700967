"""Owns how the counts of a list's entries go on, whatever their counters do; it is pure.

What an entry has matched is a base and what its counters in the kernel hold. Invariants:

1. Nothing counts twice: what a counter held is added to the base only when that counter has gone.
2. Nothing is lost that was read: a counter that is missing has gone, and held what was read last.
3. An entry that goes from a list takes its count along; one that comes again begins at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from ipsecd.backend.base import Count, EntryCounts
from ipsecd.model.addresses import Family
from ipsecd.model.counted_lists import CountedList
from ipsecd.model.lists import AddressList, Form, split
from ipsecd.sources.entry_counts_file import Counts, KeptEntries
from ipsecd.sources.list_journal import key_of


class Removal(NamedTuple):
    """Entries that went from a list, all of them if ``removed`` is None.

    ``ended_before`` tells of a counter that has ended whether it had when they went.
    """

    name: str
    removed: Mapping[Form, bytes] | None
    ended_before: Callable[[str], bool]

    def keys(self) -> Iterator[bytes]:
        """The entries that are named."""
        for form, packed in (self.removed or {}).items():
            yield from (key_of(form, entry) for entry in split(packed, form.width))


def removals(
    before: Mapping[str, AddressList],
    after: Mapping[str, AddressList],
    ended_before: Callable[[], Callable[[str], bool]],
) -> list[Removal]:
    """What goes from lists that count, and all of one that does so no more."""
    found = []
    for name, old in before.items():
        new = after.get(name)
        if not isinstance(old, CountedList) or new is old:
            continue
        if not isinstance(new, CountedList):
            found.append(Removal(name, None, ended_before()))
            continue
        gone = {form: old.change_of(form, new)[0] for form in old.entries}
        if any(gone.values()):
            found.append(Removal(name, gone, ended_before()))
    return found


def without(kept: dict[str, KeptEntries], removal: Removal) -> None:
    """Forget what entries have matched that went from a list."""
    if removal.removed is None:
        kept.pop(removal.name, None)
    elif removal.name in kept:
        each = kept[removal.name]
        keys = set(removal.keys())
        for counts in (each.base, *each.last.values()):
            for key in keys.intersection(counts):
                del counts[key]


def read_anew(
    kept: dict[str, KeptEntries],
    found: Iterable[EntryCounts],
    lists: Mapping[str, AddressList],
    earlier: Iterable[Removal],
    now: float,
) -> None:
    """Take what counters of `lists` hold, at the time `now`, in seconds since the epoch.

    `earlier` are removals since counters were read the last time: what a counter has that had ended
    by then is without these entries.
    """
    counting = {name for name, each in lists.items() if isinstance(each, CountedList)}
    for name in counting:
        kept.setdefault(name, KeptEntries(now))
    for name in [name for name in kept if name not in counting]:
        del kept[name]
    present = set()
    for each in found:
        if each.list_name not in counting:
            continue
        present.add(each.part)
        of_list = kept[each.list_name]
        if each.counts is None:
            continue
        counts: Counts = {key_of(each.form, entry): (*c,) for entry, c in each.counts.items()}
        if not each.has_ended:
            # What a change interrupted may lack some.
            of_list.last.setdefault(each.part, {}).update(counts)
            continue
        for removal in earlier:
            if removal.name == each.list_name and removal.ended_before(each.counter):
                gone = counts if removal.removed is None else set(removal.keys()) & counts.keys()
                for key in list(gone):
                    del counts[key]
        of_list.last.pop(each.part, None)
        _add(of_list.base, counts)
    for of_list in kept.values():
        for part in of_list.last.keys() - present:
            _add(of_list.base, of_list.last.pop(part))


def only_entries_of(kept: dict[str, KeptEntries], lists: Mapping[str, AddressList]) -> None:
    """Forget all that is of no entry of now: lists may have changed while nobody looked."""
    for name, each in kept.items():
        layers = lists[name].layers if name in lists else None
        for counts in (each.base, *each.last.values()):
            for key in list(counts):
                form = Form(Family(key[0]), key[1])
                if layers is None or not layers.holds(form, key[2:]):
                    del counts[key]


def moved(kept: Mapping[str, KeptEntries]) -> None:
    """Go on where none of the counters is left, as after a reboot."""
    for each in kept.values():
        for part in list(each.last):
            _add(each.base, each.last.pop(part))


def totals(kept: KeptEntries) -> dict[bytes, Count]:
    """What each entry has matched that has matched anything."""
    counts: Counts = dict(kept.base)
    for last in kept.last.values():
        _add(counts, last)
    return {key: Count(*pair) for key, pair in counts.items()}


def _add(counts: Counts, more: Counts) -> None:
    for key, (packets, size) in more.items():
        before = counts.get(key, (0, 0))
        counts[key] = before[0] + packets, before[1] + size
