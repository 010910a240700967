"""Owns the sets of a policy and of dynamic rules that are loaded before any rule uses them.

The kernel carries out a transaction as a whole, and does nothing else meanwhile: some hundred
thousand elements take half a second. A rule begins to use a set in a later transaction, so the set
can be filled before that, in many short transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from ipsecd.backend.base import Line
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.lists import ListForm, ListSet, creation
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import TABLE, counter_name, describe
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import VolatileTable
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Origin
from ipsecd.progress import Phase, Progress, Tell

LARGE = 2000
"""A set of so many elements is loaded early; a transaction of fewer takes only milliseconds."""
LISTS_AT_ONCE = 2
"""How many lists of elements go into one transaction; each list fills a message."""
COUNTERS_AT_ONCE = 500
ENTRIES_AT_ONCE = 1000
"""Of dynamic rules, each with its deadline; to write the message takes longer than the kernel."""


class EarlySets:
    """The sets that are being loaded, and those that are loaded."""

    def __init__(self, *, is_ahead: bool = False) -> None:
        """`is_ahead` says that a list is loaded while it is read, before all else is known."""
        self.is_ahead = is_ahead
        self.judged: tuple[object, Classifier, bool] | None = None
        """Of which sets and classifier it was found out last whether lists may change in place."""
        self.names: frozenset[str] = frozenset()
        self.origins: frozenset[Origin] = frozenset()
        self._loaded: dict[tuple[TableId, str], KernelTable] = {}
        self._lists: dict[ListForm, ListSet] = {}
        self._dynamic: dict[TableId, tuple[KernelTable, VolatileTable]] = {}
        self.loaded_ahead: Callable[[ListForm, AddressList], ListSet | None] = lambda *_: None
        """Gives the set of the entries of a list that was filled while they were read."""

    def load(
        self,
        tables: Iterable[Table],
        make: Callable[[TableId, tuple[Origin, ...]], KernelTable],
        run: Line,
        commit: Callable[[list[Message]], bool],
        tell: Tell,
    ) -> None:
        """Load the large ones of `tables`, in steps that are each carried out with `run`.

        `make` gives a new set for a table. `commit` returns False if the sets have been given up
        meanwhile. `tell` is told how many elements are loaded.
        """
        large = [table for table in tables if len(table) >= LARGE]
        before, total = 0, sum(map(len, large))
        for table in large:
            kernel = run(partial(make, table.id, table.origins))
            for messages, done in self.transactions(table, kernel):
                if not run(partial(commit, messages)):
                    return
                tell(Progress(Phase.LOADING, before + done, total))
            before += len(table)
            self._loaded[table.id, table.digest] = kernel

    def load_lists(
        self,
        missing: Iterable[tuple[ListForm, AddressList]],
        make: Callable[[ListForm, AddressList], ListSet],
        run: Line,
        commit: Callable[[list[Message]], bool],
        tell: Tell,
    ) -> None:
        """Load the entries of lists that are many, likewise."""
        counted = [(form, members, members.count(form.of_entries)) for form, members in missing]
        large = [each for each in counted if each[2] >= LARGE]
        done, total = 0, sum(count for _, _, count in large)
        for form, members, count in large:
            if ahead := self.loaded_ahead(form, members):
                self._lists[form] = ahead
                done += count
                tell(Progress(Phase.LOADING, done, total))
                continue
            list_set = run(partial(make, form, members))
            self.names |= {list_set.set_name}
            messages = creation(form, list_set)
            for start in range(0, len(messages), LISTS_AT_ONCE):
                if not run(partial(commit, messages[start : start + LISTS_AT_ONCE])):
                    return
                end = min(start + LISTS_AT_ONCE, len(messages))
                tell(Progress(Phase.LOADING, done + count * end // len(messages), total))
            done += count
            self._lists[form] = list_set

    def load_dynamic(
        self,
        tables: Iterable[VolatileTable],
        make: Callable[[TableId], KernelTable],
        run: Line,
        commit: Callable[[list[Message]], bool],
        clock: Callable[[], float],
    ) -> None:
        """Load the entries of dynamic rules that are many, likewise; `clock` is their deadlines'.

        They may change meanwhile: what was loaded is known until it is taken.
        """
        for table in tables:
            if len(table) < LARGE:
                continue
            kernel = run(partial(make, table.id))
            self.names |= {*kernel.sets}
            if not run(partial(commit, tx.dynamic_sets(kernel))):
                return
            entries = table.with_deadlines()
            while part := [*islice(entries, ENTRIES_AT_ONCE)]:
                messages = tx.additions(part, {table.id: kernel}, clock())
                if not run(partial(commit, messages)):
                    return
            self._dynamic[table.id] = kernel, table

    def transactions(
        self, table: Table, kernel: KernelTable
    ) -> Iterator[tuple[list[Message], int]]:
        """The transactions that create the set of a table and fill it, made one by one.

        Each comes with the number of elements that are loaded after it, which is an estimate: it
        takes all messages to have equally many.
        """
        self.names |= {kernel.set_name}
        self.origins |= frozenset(table.origins)
        for start in range(0, len(table.origins), COUNTERS_AT_ONCE):
            part = table.origins[start : start + COUNTERS_AT_ONCE]
            counters = (
                nft.new_counter(TABLE, counter_name(origin), describe(origin)) for origin in part
            )
            yield list(counters), 0
        messages = tx.policy_set(table, kernel)
        for start in range(0, len(messages), LISTS_AT_ONCE):
            end = min(start + LISTS_AT_ONCE, len(messages))
            yield messages[start:end], len(table) * end // len(messages)

    def take_list(self, form: ListForm, members: AddressList) -> ListSet | None:
        """The loaded set of these entries; None if there is none."""
        loaded = self._lists.get(form)
        return loaded if loaded and loaded.members.is_same(form.of_entries, members) else None

    def take(self, table: Table) -> KernelTable | None:
        """The loaded set of a table; None if there is none."""
        return self._loaded.get((table.id, table.digest))

    def take_dynamic(self, table: TableId) -> tuple[KernelTable, VolatileTable] | None:
        """The loaded sets of dynamic rules of a form, with what they hold; None if there are none.

        Whoever takes them changes them, so they are taken once.
        """
        return self._dynamic.pop(table, None)
