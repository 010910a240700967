"""Owns the sets that hold the entries of lists: one for each list, IP version and prefix length.

Of a list that counts there is another one with the same elements, in which each has a counter. It
is looked into when a packet has been decided about, and then alone. Sends nothing. Invariants:

1. A set is there as long as a table looks for such entries, however many tables do.
2. Elements are added to and deleted from a set in place only where every packet still meets the old
   verdict or the new one: a packet that is on its way through the old rules reads elements as they
   are at each look-up. That is so where all tables that look into the lists which change have one
   action, and all other tables stay; then what comes is added first, and what goes is deleted when
   no packet can have missed what came. In any other case sets are replaced, with the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ipsecd.backend.nftables import contents
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.elements import add_elements, delete_elements, packed_elements
from ipsecd.backend.nftables.naming import TABLE, address_type, list_set_name, said_of
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import JOINED, Family
from ipsecd.model.counted_lists import counting_members
from ipsecd.model.lists import NO_ENTRIES, AddressList, Form

IN_PLACE = 5_000
"""The most elements that come and go in place: to find and change them takes a few hundredths of a
second. A set of which more change is filled anew beforehand, while others have their turn."""
LEAST_ROOM = 1024
"""Room for so many elements more than a set holds, or for a quarter more if that is more. The size
of a set is fixed when it is made; one that is full is replaced by a larger one."""


class ListForm(NamedTuple):
    """Which entries a set holds: those of one list, IP version and prefix length.

    Where they are ``counted``, each element has a counter, and counts when it is looked up.
    """

    name: str
    family: Family
    length: int
    counted: bool = False

    @property
    def width(self) -> int:
        """The length of an element in bytes."""
        return self.family.bits // 8

    @property
    def of_entries(self) -> Form:
        """IP version and prefix length of the entries."""
        return Form(self.family, self.length)

    def packed(self, members: AddressList) -> bytes:
        """The entries of this form in a list, packed."""
        return members.entries.get(self.of_entries, b"")


@dataclass(frozen=True, slots=True)
class ListSet:
    """A set in the kernel, its size, and the list whose entries of its form it holds."""

    set_name: str
    size: int
    members: AddressList


ListSets = Mapping[ListForm, ListSet]


@dataclass(frozen=True, slots=True)
class Plan:
    """The sets of a state, and the messages that lead to them.

    ``first`` is carried out with the new rules. ``then`` is carried out when every packet that was
    on its way through the old rules has left them.
    """

    sets: ListSets
    first: list[Message] = field(default_factory=list)
    then: list[Message] = field(default_factory=list)


def forms_of(tables: Iterable[TableId], lists: Mapping[str, AddressList]) -> list[ListForm]:
    """All that `tables` look into, and where they count what entries of `lists` match."""
    forms = {
        ListForm(listed.name, table.family, listed.length)
        for table in tables
        for _, listed in table.listed
    }
    counting = {name: counting_members(name, lists) for name in {form.name for form in forms}}
    return sorted(forms.union(*(_counted_forms(form, counting[form.name]) for form in forms)))


def _counted_forms(form: ListForm, counting: Mapping[str, AddressList]) -> list[ListForm]:
    return [
        form._replace(name=name, counted=True)
        for name, members in counting.items()
        if members.count(form.of_entries)
    ]


def counted_forms(form: ListForm, sets: ListSets) -> list[ListForm]:
    """Where what a table finds in a set is counted: for each list of which the set has entries."""
    forms = (form._replace(name=name, counted=True) for name in form.name.split(JOINED))
    return [each for each in forms if each in sets]


def forms_in(name: str, members: AddressList) -> list[ListForm]:
    """All that tables may look into that name a list, and where they count."""
    forms = [ListForm(name, *of_entries) for of_entries in members.entries]
    counting = counting_members(name, {name: members})
    return [*forms, *(each for form in forms for each in _counted_forms(form, counting))]


def new_set(form: ListForm, count: int, members: AddressList, serial: int) -> ListSet:
    """A set for `count` entries of this form, with room for more; `members` are these."""
    return ListSet(name_of(form, serial), count + max(LEAST_ROOM, count // 4), members)


def name_of(form: ListForm, serial: int) -> str:
    """The name of the set of this form that has a serial number."""
    return list_set_name(form.name, form.family, form.length, serial, counted=form.counted)


def least_size(count: int) -> int:
    """The size of a set below which it had better be made anew: it has half of the usual room."""
    return count + max(LEAST_ROOM, count // 4) // 2


def creation(form: ListForm, list_set: ListSet) -> list[Message]:
    """Create a set with all its elements."""
    added = additions(form, list_set.set_name, form.packed(list_set.members))
    complete = contents.complete(list_set.set_name, list_set.members.digest_of(form.of_entries))
    return [empty_set(form, list_set), *added, complete]


def empty_set(form: ListForm, list_set: ListSet) -> Message:
    """Create a set without elements."""
    key_types = (address_type(form.family),)
    # What it counts for is found again by this, whichever process made it.
    text = said_of(form.name, form.of_entries) if form.counted else ""
    return nft.new_set(
        TABLE,
        list_set.set_name,
        key_types,
        form.width,
        list_set.size,
        0,
        counted=form.counted,
        text=text,
    )


def plan(
    present: ListSets,
    forms: Iterable[ListForm],
    lists: Mapping[str, AddressList],
    loaded: Callable[[ListForm, AddressList], ListSet | None],
    make: Callable[[ListForm, AddressList], ListSet],
    *,
    in_place: bool,
) -> Plan:
    """What turns the sets that are `present` into those for `forms` of `lists`.

    A set that was `loaded` beforehand is taken; `make` gives a new one. Without `in_place` a set
    that holds other elements is replaced.
    """
    sets: dict[ListForm, ListSet] = {}
    planned = Plan(sets)
    for form in forms:
        members, old = lists.get(form.name, NO_ENTRIES), present.get(form)
        if old and old.members.is_same(form.of_entries, members):
            # With the list of now, so that one of before takes up no memory.
            sets[form] = replace(old, members=members)
            continue
        if early := loaded(form, members):
            sets[form] = early
            continue
        change = in_place_change(form, old, members) if old and in_place else None
        if old is None or change is None:
            sets[form] = make(form, members)
            planned.first.extend(creation(form, sets[form]))
            continue
        sets[form] = replace(old, members=members)
        _change_in_place(planned, form, old, members, *change)
    return planned


def _change_in_place(
    planned: Plan, form: ListForm, old: ListSet, members: AddressList, removed: bytes, added: bytes
) -> None:
    """Add to a plan what turns the elements of a set into the entries of `members`."""
    name, of_entries = old.set_name, form.of_entries
    begun = contents.no_longer(name, old.members.digest_of(of_entries))
    done = contents.complete(name, members.digest_of(of_entries))
    to_add = additions(form, name, added)
    deletions = [
        delete_elements(TABLE, name, part) for part in packed_elements(removed, form.width)
    ]
    if to_add and deletions:
        planned.first.extend([begun, *to_add])
        planned.then.extend([*deletions, done])
    else:
        part = planned.first if to_add else planned.then
        part.extend([begun, *to_add, *deletions, done])


def in_place_change(
    form: ListForm, old: ListSet, members: AddressList
) -> tuple[bytes, bytes] | None:
    """The elements that go and those that come; None if the set had better be replaced."""
    before = old.members.count(form.of_entries)
    if abs(before - members.count(form.of_entries)) > IN_PLACE:
        return None
    removed, added = old.members.change_of(form.of_entries, members)
    if len(removed) + len(added) > IN_PLACE * form.width:
        return None
    if before + len(added) // form.width > old.size:
        return None
    return removed, added


def must_be_made(
    form: ListForm, old: ListSet | None, members: AddressList, *, in_place: bool
) -> bool:
    """Whether entries need a new set: the `old` one has others and cannot be changed in place."""
    if old is None:
        return True
    if old.members.is_same(form.of_entries, members):
        return False
    return not in_place or in_place_change(form, old, members) is None


def may_change_in_place(
    present: ListSets, lists: Mapping[str, AddressList], tables: Iterable[TableId]
) -> bool:
    """Whether all tables that look into lists which change have one action; see the invariants.

    `tables` are those of the state before and of the one after; without lists, they are the same.
    """
    listing = [table for table in tables if table.listed]
    changing = {
        form.name
        for form in {*forms_of(listing, lists), *present}
        if not (present[form].members if form in present else NO_ENTRIES).is_same(
            form.of_entries, lists.get(form.name, NO_ENTRIES)
        )
    }
    looking = [
        table for table in listing if any(listed.name in changing for _, listed in table.listed)
    ]
    return len({table.action for table in looking}) < 2


def additions(form: ListForm, name: str, entries: bytes) -> list[Message]:
    """Add packed entries of this form to a set."""
    return [add_elements(TABLE, name, part) for part in packed_elements(entries, form.width)]
