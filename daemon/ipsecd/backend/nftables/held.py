"""Owns which sets the kernel holds for a state, and which it needs for the next; sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ipsecd.backend.nftables import contents
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.comparison import PolicySet
from ipsecd.backend.nftables.early import EarlySets
from ipsecd.backend.nftables.lists import (
    ListForm,
    ListSet,
    ListSets,
    Plan,
    forms_in,
    forms_of,
    may_change_in_place,
    must_be_made,
    plan,
)
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import COUNTED, TABLE, counter_name, describe
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Entry, Volatile, VolatileTable
from ipsecd.model.counted_lists import with_counting_members
from ipsecd.model.lists import NO_ENTRIES, AddressList
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.values import Origin

Entries = Mapping[TableId, PersistentMap[bytes, Mapping[Origin, float]]]
"""What dynamic sets hold, by their tables."""


@dataclass(frozen=True, slots=True)
class Held:
    """The sets of policy and dynamic rules, by their tables, and those of the entries of lists."""

    policy: Mapping[TableId, PolicySet] = field(default_factory=dict)
    dynamic: Mapping[TableId, KernelTable] = field(default_factory=dict)
    lists: ListSets = field(default_factory=dict)

    @property
    def tables(self) -> tuple[TableId, ...]:
        """All tables, in no particular order."""
        return (*self.policy, *self.dynamic)

    @property
    def names(self) -> set[str]:
        """The names of all sets."""
        return {
            *(policy_set.kernel.set_name for policy_set in self.policy.values()),
            *(name for kernel in self.dynamic.values() for name in kernel.sets),
            *(list_set.set_name for list_set in self.lists.values()),
        }

    def deletion_of_others(self, before: Held) -> list[Message]:
        """Delete the sets of `before` that these are not, and what the table says of them.

        These are sets of dynamic rules, of which it says nothing, and of the entries of lists. Sets
        that count stay until somebody has read what they hold.
        """
        gone = {name for name in before.names - self.names if not name.startswith(COUNTED)}
        said = [
            contents.no_longer(list_set.set_name, list_set.members.digest_of(form.of_entries))
            for form, list_set in before.lists.items()
            if list_set.set_name in gone
        ]
        return [*said, *(nft.delete_set(TABLE, name) for name in sorted(gone))]

    def keeps(self, before: Held, old: Classifier | None, new: Classifier) -> bool:
        """Whether these sets are those of `before`, and `new` has the rules that `old` had.

        The same classifier is put in force again for what it does not say, so its rules may change.
        """
        return (
            old is not None
            and old is not new
            and old.exemptions == new.exemptions
            and old.drop_unparsable == new.drop_unparsable
            and self.names == before.names
        )

    def next_lists(
        self,
        classifier: Classifier,
        tables: Iterable[TableId],
        early: EarlySets,
        make: Callable[[ListForm, AddressList], ListSet],
        *,
        are_others: bool = False,
    ) -> Plan:
        """What leads to the sets of the lists of `classifier` that `tables` look into.

        Those that were loaded `early` are taken. `make` gives a new one. Where other tables of
        dynamic rules `are_others`, packets may not meet them with half a change of lists.
        """
        in_place = not are_others and self._may_change_lists_in_place(classifier, early)
        forms, loaded = forms_of(tables, classifier.lists), early.take_list
        lists = with_counting_members(classifier.lists)
        return plan(self.lists, forms, lists, loaded, make, in_place=in_place)

    def missing_tables(self, classifier: Classifier) -> list[Table]:
        """The tables of `classifier` whose sets have to be made."""
        held = {table: policy_set.table.digest for table, policy_set in self.policy.items()}
        return [table for table in classifier.tables if held.get(table.id) != table.digest]

    def missing_lists(
        self, classifier: Classifier, early: EarlySets
    ) -> list[tuple[ListForm, AddressList]]:
        """The entries of lists that `classifier` has, and that need sets which have to be made.

        They include those that only a dynamic rule will look into, which comes with them.
        """
        tables = [*(table.id for table in classifier.tables), *self.dynamic]
        forms = forms_of(tables, classifier.lists)
        looked_into = {form.name for form in forms}
        for name, members in classifier.lists.items():
            if name not in looked_into:
                forms += forms_in(name, members)
        in_place = self._may_change_lists_in_place(classifier, early)
        lists = with_counting_members(classifier.lists)
        wanted = ((form, lists.get(form.name, NO_ENTRIES)) for form in forms)
        return [
            (form, members)
            for form, members in wanted
            if must_be_made(form, self.lists.get(form), members, in_place=in_place)
        ]

    def _may_change_lists_in_place(self, classifier: Classifier, early: EarlySets) -> bool:
        """Whether packets may meet these rules with the lists of `classifier`, which comes next.

        It is found out once for what is made ready with `early` and then put in force.
        """
        if not early.judged or early.judged[0] is not self or early.judged[1] is not classifier:
            early.judged = self, classifier, self._judged_in_place(classifier)
        return early.judged[2]

    def _judged_in_place(self, classifier: Classifier) -> bool:
        before = {id_: held.table.digest for id_, held in self.policy.items() if not id_.listed}
        after = {table.id: table.digest for table in classifier.tables if not table.id.listed}
        tables = [*(table.id for table in classifier.tables), *self.tables]
        lists = with_counting_members(classifier.lists)
        return before == after and may_change_in_place(self.lists, lists, tables)


def policy_sets(
    classifier: Classifier,
    present: Mapping[TableId, PolicySet],
    early: EarlySets,
    make: Callable[[TableId, tuple[Origin, ...]], KernelTable],
) -> tuple[dict[TableId, PolicySet], list[Message]]:
    """The sets of a policy, and what makes those that are not `present` with this content.

    Those that were loaded `early` are taken. `make` gives a new set for a table.
    """
    policy: dict[TableId, PolicySet] = {}
    counted = {origin for policy_set in present.values() for origin in policy_set.table.origins}
    counted |= early.origins
    steps = [
        nft.new_counter(TABLE, counter_name(origin), describe(origin))
        for origin in sorted(classifier.origins - counted)
    ]
    for table in classifier.tables:
        old = present.get(table.id)
        if old and old.table.digest == table.digest:
            policy[table.id] = old
        elif loaded := early.take(table):
            policy[table.id] = PolicySet(table, loaded)
        else:
            kernel = make(table.id, table.origins)
            policy[table.id] = PolicySet(table, kernel)
            steps += tx.policy_set(table, kernel)
    return policy, steps


def dynamic_sets(
    present: Mapping[TableId, KernelTable],
    before: Entries,
    volatile: Volatile,
    early: EarlySets,
    make: Callable[[TableId], KernelTable],
    now: float,
) -> tuple[dict[TableId, KernelTable], list[Message]]:
    """The sets of dynamic rules, and what makes those that hold something else than `before`.

    A packet on its way looks into the old ones to the end, as it does into those of the policy.
    Those that were loaded `early` are taken, with what has come and gone since.
    """
    dynamic: dict[TableId, KernelTable] = {}
    steps: list[Message] = []
    for table in volatile.tables:
        if table.id in present and before.get(table.id) is table.entries:
            dynamic[table.id] = present[table.id]
            continue
        loaded = early.take_dynamic(table.id)
        if not loaded:
            loaded = make(table.id), VolatileTable(table.id)
            steps += tx.dynamic_sets(loaded[0])
        dynamic[table.id], held = loaded
        delta = held.difference(table)
        steps += tx.removals(delta.removed, dynamic, now) + tx.additions(delta.added, dynamic, now)
    return dynamic, steps


def entries_gone(before: Entries, volatile: Volatile) -> Iterator[Entry]:
    """The entries that dynamic sets held `before` and that are not there any more."""
    tables = {table.id: table.entries for table in volatile.tables}
    for table, entries in before.items():
        for key, _, writers in entries.differences(tables.get(table, PersistentMap())):
            if writers is None:
                yield Entry(table, key, 0.0)
