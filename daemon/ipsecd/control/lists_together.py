"""Owns lists of addresses that change with policies; must not know what the policies become.

A list that holds the filters of a filter list is named by the policies that use that one, so both
change in one moment. One entry more or less, with nothing else, is what ``AddToList`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ipsecd.control.method import Request
from ipsecd.engine import Engine
from ipsecd.engine.restoring import RestoredLists
from ipsecd.errors import Changed, InvalidInput
from ipsecd.language.address_lists import read_addresses
from ipsecd.model.addresses import check_list_name
from ipsecd.model.packing import united, without
from ipsecd.quoting import quote
from ipsecd.sources.list_differences import ListDifference, parts_after
from ipsecd.sources.list_journal import keys_of, list_of
from ipsecd.sources.lists import ListChange, ListStore

_AGAIN = "look at what is there now, and try again"


@dataclass(frozen=True, slots=True)
class ListsTogether:
    """The lists that are to change, and how; only those are here that do."""

    engine: Engine
    wanted: Sequence[ListDifference]

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def prepared(self) -> RestoredLists | None:
        """The change of all of them, beside policies; writes nothing. Raises ``IpsecdError``."""
        if not self.wanted:
            return None
        store = self.engine.kept_lists.store
        parts = {each.name: parts_after(store, each) for each in self.wanted}
        return self.engine.restoring.lists(parts, tuple(parts))

    def alone(self) -> ListChange | None:
        """The change of the one list, if it only gets entries or only loses some; else None."""
        if len(self.wanted) != 1:
            return None
        store, (each,) = self.engine.kept_lists.store, self.wanted
        if each.name not in store.lists or each.is_gone or (each.added and each.removed):
            return None
        if each.removed:
            return store.remove(each.name, each.removed)
        return store.add(each.name, each.added)

    def finish(self) -> None:
        """Forget what belonged to lists that are gone, once they are."""
        gone = frozenset(each.name for each in self.wanted if each.is_gone)
        kept = self.engine.kept_lists
        for name in gone:
            kept.feeds.forget(name)
        kept.count(kept.counted - gone)


def lists_together(engine: Engine, request: Request) -> ListsTogether:
    """What is asked for of lists; raises ``IpsecdError`` if it does not fit what is there."""
    wanted: list[ListDifference] = []
    names: set[str] = set()
    for given in request["lists"] or ():
        asked = _difference(given)
        if asked.name in names:
            raise InvalidInput(f"list {quote(asked.name)} is to change twice")
        names.add(asked.name)
        if each := _new(engine.kept_lists.store, asked):
            wanted.append(each)
    return ListsTogether(engine, wanted)


def _difference(given: dict[str, Any]) -> ListDifference:
    name = given["name"]
    check_list_name(name)
    is_new, is_gone = bool(given["create"]), bool(given["delete"])
    added, removed = read_addresses(given["add"]), read_addresses(given["remove"])
    if (is_new and (removed or is_gone)) or (is_gone and added):
        raise InvalidInput(
            f"list {quote(name)} cannot be made and lose entries, nor get entries and be deleted"
        )
    return ListDifference(name, added, removed, is_new, is_gone)


def _new(store: ListStore, wanted: ListDifference) -> ListDifference | None:
    """What of it is not so already; raises ``Changed`` if it was asked for by what was before."""
    present = store.lists.get(wanted.name)
    if present is None:
        if wanted.removed:
            raise Changed(f"somebody else has deleted list {quote(wanted.name)}", _AGAIN)
        if wanted.is_gone:
            return None
        store.must_be_new(wanted.name)
        return wanted
    if wanted.is_new:
        raise Changed(f"somebody else has made a list {quote(wanted.name)}", _AGAIN)
    there = present.addresses
    has_others = wanted.is_gone and wanted.removed and without(there, wanted.removed)
    if has_others or without(wanted.removed, there):
        raise Changed(f"somebody else has changed list {quote(wanted.name)}", _AGAIN)
    ending = (key for key in keys_of(wanted.added) if present.added.get(key, inf) != inf)
    added = united((without(wanted.added, there), list_of(ending)))
    if not (added or wanted.removed or wanted.is_gone):
        return None
    return replace(wanted, added=added)
