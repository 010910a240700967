"""Owns naming sets that are to be made: no set of our table has had such a name before."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.backend.nftables.lists import ListForm, ListSet, new_set
from ipsecd.backend.nftables.looks import KernelTable, kernel_table
from ipsecd.backend.nftables.naming import serial_of, set_name
from ipsecd.compiler.tables import TableId
from ipsecd.model.lists import NO_ENTRIES, AddressList
from ipsecd.model.values import Origin


class NewSets:
    """Sets that are not in the kernel yet, numbered one after the other."""

    def __init__(self) -> None:
        self._serial = 0

    @property
    def last(self) -> int:
        """The number of the set that was named last."""
        return self._serial

    def begin_after(self, existing: Iterable[str]) -> None:
        """Leave out the numbers of sets that an earlier process made."""
        self._serial = max([self._serial, *map(serial_of, existing)])

    def of_table(self, table: TableId, origins: tuple[Origin, ...] = ()) -> KernelTable:
        """The sets of a table."""
        self._serial += 1
        return kernel_table(table, set_name(table, self._serial), origins)

    def of_list(self, form: ListForm, members: AddressList) -> ListSet:
        """The set of the entries of a list that have this form."""
        self._serial += 1
        return new_set(form, members.count(form.of_entries), members, self._serial)

    def for_entries_to_come(self, form: ListForm, count: int) -> ListSet:
        """A set that is filled with so many entries of a list, none of which are known yet."""
        self._serial += 1
        return new_set(form, count, NO_ENTRIES, self._serial)
