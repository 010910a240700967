"""Owns how several lists of a host become what is wanted; must not know archives or policies.

It prepares a change of all of them at once, as for a backup. An edit by hand since a file was read
is not overwritten. A crash in between leaves some lists old and some new: whoever makes the change
sees to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from ipsecd.errors import IpsecdError
from ipsecd.language.address_lists import read_list
from ipsecd.model.persistent import PersistentMap
from ipsecd.sources.backups import ListParts
from ipsecd.sources.list_files import Feed, FileRead
from ipsecd.sources.list_journal import Entries
from ipsecd.sources.list_parts import Parts, StoredList, file_read
from ipsecd.sources.lists import ListChange, ListStore

Do = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Planned:
    """What one list will be, None if it goes, and the steps to that, each with what undoes it."""

    after: StoredList | None
    steps: tuple[tuple[Do, Do], ...]


def restored_lists(
    store: ListStore, wanted: Mapping[str, ListParts], only: Iterable[str] | None = None
) -> ListChange:
    """Prepare the change after which there are exactly the lists `wanted`; nothing is written yet.

    With `only`, the lists of other names stay as they are.
    Entries that have ended meanwhile are left out. Of a list that comes from the same URL already
    the entries stay: they were fetched later. Raises ``Refused`` if a file was edited since it was
    loaded, ``StoreFailed``, or ``InvalidInput`` for a file that holds no list.
    """
    before, problems = store.lists, store.problems
    now = time.time()
    planned = {}
    for name in sorted(before.keys() | wanted.keys() if only is None else only):
        plan = _plan(store.parts_of(name), name, before.get(name), wanted.get(name), now)
        if plan.steps:
            planned[name] = plan
    after = {name: stored for name, stored in before.items() if name not in planned}
    after |= {name: plan.after for name, plan in planned.items() if plan.after}
    steps = [step for plan in planned.values() for step in plan.steps]

    def commit() -> None:
        _carry_out(steps)
        store.take(dict(sorted(after.items())), problems)

    def undo() -> None:
        _carry_out([(undo, do) for do, undo in reversed(steps)])
        store.take(before, problems)

    changes = {name: plan.after.addresses if plan.after else None for name, plan in planned.items()}
    each_after = {name: plan.after for name, plan in planned.items()}
    return ListChange(changes, commit, undo, after=each_after)


def _plan(
    parts: Parts, name: str, old: StoredList | None, wanted: ListParts | None, now: float
) -> _Planned:
    present = old or StoredList(name, None, None, PersistentMap())
    goal = wanted or ListParts()
    content = parts.current_file(present)
    added = _still_there(goal.added, now)
    steps: list[tuple[Do, Do]] = []
    file, feed = present.file, _feed_of(present.feed, goal.feed)
    if goal.file != content:
        file = _read(name, goal.file)
        steps.append(
            (
                partial(parts.write_file, goal.file, content, file),
                partial(parts.write_file, content, goal.file, present.file),
            )
        )
    if feed != present.feed:
        steps.append(
            (
                partial(parts.save_feed, feed, present.feed),
                partial(parts.save_feed, present.feed, feed),
            )
        )
    # What stands in a journal may depend on the file that it stands beside.
    if added != present.added or (steps and parts.journal.path.exists()):
        steps.append(
            (
                partial(_save_entries, parts, added),
                partial(_save_entries, parts, present.added),
            )
        )
    if steps and old is None:
        steps.insert(0, (parts.finish_deletion, lambda: None))
    new = StoredList(name, file, feed, added)
    if not new.exists:
        # Without a part that makes it one, it is no list.
        return _Planned(None, tuple(steps) if old else ())
    return _Planned(new.filled(), tuple(steps))


def _carry_out(steps: list[tuple[Do, Do]]) -> None:
    """Carry out steps; if one fails, undo what was done and raise why."""
    undos: list[Do] = []
    try:
        for do, undo in steps:
            undos.append(undo)
            do()
    except IpsecdError as failure:
        for undo in reversed(undos):
            try:
                undo()
            except IpsecdError as second:
                failure.hint += f"; putting the old state back failed too: {second.message}"
        raise


def _read(name: str, content: bytes | None) -> FileRead | None:
    if content is None:
        return None
    return file_read(sha256(content).hexdigest(), read_list(content, f"lists/{name}"))


def _feed_of(present: Feed | None, wanted: Feed | None) -> Feed | None:
    """The feed to have: it is due at once, unless it is here already."""
    if present is None or wanted is None:
        return wanted
    if (present.url, present.form) != (wanted.url, wanted.form):
        return wanted
    return replace(present, every_s=wanted.every_s)


def _still_there(entries: Entries, now: float) -> Entries:
    for key in [key for key, end in entries.items() if end <= now]:
        entries = entries.without(key)
    return entries


def _save_entries(parts: Parts, entries: Entries) -> None:
    if entries:
        parts.journal.rewrite(entries)
    else:
        parts.journal.unlink()
