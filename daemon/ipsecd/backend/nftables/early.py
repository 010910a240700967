"""Owns the sets of a policy that are loaded before any rule uses them.

The kernel carries out a transaction as a whole, and nothing else is done meanwhile: half a second
for some hundred thousand elements. Where a rule comes to use a set is a transaction of its own, so
how its elements got there can be many short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ipsecd.backend.base import Line
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import TABLE, counter_name, describe
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.values import Origin
from ipsecd.progress import Phase, Progress, Tell

LARGE = 2000
"""How many elements make a set worth loading early: a transaction of them takes milliseconds."""
LISTS_AT_ONCE = 2
"""How many lists of elements, each of as many as a message holds, are one transaction."""
COUNTERS_AT_ONCE = 500


class EarlySets:
    """The sets that are being loaded, and those that are loaded."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.origins: frozenset[Origin] = frozenset()
        self._loaded: dict[tuple[TableId, str], KernelTable] = {}

    def load(
        self,
        tables: Iterable[Table],
        make: Callable[[TableId, tuple[Origin, ...]], KernelTable],
        run: Line,
        commit: Callable[[list[Message]], bool],
        tell: Tell,
    ) -> None:
        """Load the large ones of `tables`, in steps that are each carried out with `run`.

        `make` gives a new set for a table; `commit` returns False where the sets have been given
        up meanwhile; `tell` hears how many elements are loaded.
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

    def transactions(
        self, table: Table, kernel: KernelTable
    ) -> Iterator[tuple[list[Message], int]]:
        """What creates the set of a table and fills it, each part being made when it is due.

        With each the number of elements that are loaded after it, as if all messages had as many.
        """
        self.names |= {kernel.set_name}
        self.origins |= frozenset(table.origins)
        for start in range(0, len(table.origins), COUNTERS_AT_ONCE):
            part = table.origins[start : start + COUNTERS_AT_ONCE]
            yield [nft.new_counter(TABLE, counter_name(one), describe(one)) for one in part], 0
        messages = tx.policy_set(table, kernel)
        for start in range(0, len(messages), LISTS_AT_ONCE):
            end = min(start + LISTS_AT_ONCE, len(messages))
            yield messages[start:end], len(table) * end // len(messages)

    def take(self, table: Table) -> KernelTable | None:
        """The loaded set of a table; None if there is none."""
        return self._loaded.get((table.id, table.digest))
