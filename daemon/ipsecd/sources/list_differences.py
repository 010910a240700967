"""Owns what the parts of a list are after some entries come and others go; writes nothing.

It must not know why they do, nor what else changes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ipsecd.language.list_editing import text_without
from ipsecd.language.list_entries import format_list
from ipsecd.model.lists import AddressList
from ipsecd.model.packing import shared
from ipsecd.sources.backups import ListParts
from ipsecd.sources.list_journal import keys_of
from ipsecd.sources.lists import ListStore


@dataclass(frozen=True, slots=True)
class ListDifference:
    """Entries that are to be in a list, and such that go; or the list is to be gone.

    ``is_new`` says that there must not be a list of this name.
    """

    name: str
    added: AddressList
    removed: AddressList
    is_new: bool = False
    is_gone: bool = False


def parts_after(store: ListStore, wanted: ListDifference) -> ListParts:
    """The parts of the list after that; those of a list that is gone are none.

    A new list is a file for people to edit, and what is added to another is added by command.
    Raises ``IpsecdError`` for entries that are not there or cannot be taken out.
    """
    if wanted.is_gone:
        return ListParts()
    old = store.lists.get(wanted.name)
    if old is None:
        return ListParts("".join(f"{line}\n" for line in format_list(wanted.added)).encode())
    content, added = store.parts_of(wanted.name).current_file(old), old.added
    if wanted.removed:
        # Whatever is wrong with that is found out there.
        store.remove(wanted.name, wanted.removed)
        if old.file and content is not None:
            content = text_without(content, shared(wanted.removed, old.file.addresses))
        for key in keys_of(wanted.removed):
            added = added.without(key)
    for key in keys_of(wanted.added):
        added = added.with_item(key, inf)
    return ListParts(content, old.feed, added)
