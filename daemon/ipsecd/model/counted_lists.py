"""Owns which lists count what each of their entries matches; must not know who counts, nor how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipsecd.model.addresses import JOINED
from ipsecd.model.lists import AddressList
from ipsecd.model.united import UnitedList


@dataclass(frozen=True)
class CountedList(AddressList):
    """A list that counts what each entry matches; it is equal to no list that does not."""


def with_counting(addresses: AddressList, *, counts: bool) -> AddressList:
    """The list of these entries that counts what each of them matches, or does not.

    It shares the packed entries, so it costs the same however long the list is.
    """
    if isinstance(addresses, CountedList) is counts:
        return addresses
    other = (CountedList if counts else AddressList)(addresses.entries)
    other.take_digest_of(addresses)
    return other


def counting_members(name: str, lists: Mapping[str, AddressList]) -> dict[str, AddressList]:
    """The lists that count, by their own names, of those that a name in a table stands for."""
    addresses = lists.get(name)
    if isinstance(addresses, UnitedList):
        members = zip(name.split(JOINED), addresses.members, strict=True)
        return {own: member for own, member in members if isinstance(member, CountedList)}
    return {name: addresses} if isinstance(addresses, CountedList) else {}


def with_counting_members(lists: Mapping[str, AddressList]) -> Mapping[str, AddressList]:
    """The same lists, and by their own names those that count of what is put together."""
    members = [counting_members(name, lists) for name in lists if JOINED in name]
    if not any(members):
        return lists
    found: dict[str, AddressList] = {}
    for each in members:
        found |= each
    return {**found, **lists}
