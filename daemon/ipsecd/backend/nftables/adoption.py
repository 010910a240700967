"""Owns taking over the table of an earlier process, with those of its sets that can stay.

Whether what the table says of its sets can be relied on is not decided here (``ownership.py``).
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.comparison import PolicySet
from ipsecd.backend.nftables.contents import key_of
from ipsecd.backend.nftables.failures import failure
from ipsecd.backend.nftables.held import Held
from ipsecd.backend.nftables.lists import ListSet, forms_of, name_of
from ipsecd.backend.nftables.looks import kernel_table
from ipsecd.backend.nftables.naming import (
    CONTENTS,
    TABLE,
    counter_name,
    describe,
    set_name,
    stem,
)
from ipsecd.backend.nftables.ownership import Ownership
from ipsecd.backend.nftables.reading import SetDescription, TableReader
from ipsecd.backend.nftables.wire import KernelError, Message
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.model.counted_lists import with_counting_members
from ipsecd.model.lists import NO_ENTRIES


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What was there: the names of chains and sets, and the sets that stay.

    ``steps`` are the first messages of the transaction that follows.
    """

    steps: list[Message]
    chains: list[str] = field(default_factory=list)
    names: Collection[str] = ()
    held: Held = field(default_factory=Held)


def take_over(
    ownership: Ownership,
    reader: TableReader,
    classifier: Classifier | None,
    dynamic: Iterable[TableId],
) -> TakenOver:
    """Own the table before anything else, and read what an earlier process left in it.

    Sets that hold just what `classifier` needs, with the `dynamic` tables, can stay; without one,
    all are made anew. A table that cannot be owned in place is replaced in the transaction that
    follows. Raises ``BackendFailed``.
    """
    try:
        ownership.take()
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise failure(error) from error
        return TakenOver([nft.delete_table(TABLE), *tx.foundation(ownership.flags)])
    described = reader.described_sets()
    named = {key for key, _ in reader.elements(CONTENTS)} if ownership.flags else set()
    left = LeftSets(described, named)
    held = left.held(classifier, dynamic) if classifier else Held()
    steps = tx.foundation(ownership.flags, described, left.taken)
    origins = {origin for policy_set in held.policy.values() for origin in policy_set.table.origins}
    # They should be there, and keep their counts; if one is not, no rule could be written.
    steps += [nft.new_counter(TABLE, counter_name(o), describe(o)) for o in sorted(origins)]
    return TakenOver(steps, reader.chains(), described, held)


def own(ownership: Ownership) -> None:
    """Own the table and leave it as it is; raises ``BackendFailed``."""
    try:
        ownership.take()
    except KernelError as error:
        raise failure(error) from error


class LeftSets:
    """The sets that an earlier process left; each is taken once."""

    def __init__(
        self, described: Mapping[str, SetDescription], contents: AbstractSet[bytes]
    ) -> None:
        """`contents` are the elements that say what sets hold."""
        self._described = described
        self._contents = contents
        self._names: dict[str, list[str]] = {}
        for name in described:
            self._names.setdefault(stem(name), []).append(name)
        self.taken: list[bytes] = []
        """The elements about the sets that were taken."""

    def held(self, classifier: Classifier, dynamic: Iterable[TableId]) -> Held:
        """The sets that hold what tables of `classifier` do, and lists that all tables look into.

        `dynamic` are the tables of dynamic rules, whose own sets are never taken.
        """
        policy = {}
        for table in classifier.tables:
            name = self._take(set_name(table.id, 0), table.digest, len(table))
            if name:
                kernel = kernel_table(table.id, name, table.origins)
                policy[table.id] = PolicySet(table, kernel)
        lists = {}
        named = with_counting_members(classifier.lists)
        tables = [*(table.id for table in classifier.tables), *dynamic]
        for form in forms_of(tables, classifier.lists):
            members = named.get(form.name, NO_ENTRIES)
            digest, count = members.digest_of(form.of_entries), members.count(form.of_entries)
            name = self._take(name_of(form, 0), digest, count)
            if name:
                lists[form] = ListSet(name, self._described[name].size, members)
        return Held(policy, {}, lists)

    def _take(self, first_name: str, digest: str, count: int) -> str | None:
        """A set with the name `first_name`, but for its number, that holds what has the digest."""
        for name in self._complete(stem(first_name), digest):
            # The kernel itself says how many elements there are, from Linux 6.16 on.
            if self._described[name].elements in (None, count):
                self._names[stem(first_name)].remove(name)
                self.taken.append(key_of(name, digest))
                return name
        return None

    def _complete(self, stem_of_name: str, digest: str) -> Iterator[str]:
        for name in tuple(self._names.get(stem_of_name, ())):
            if key_of(name, digest) in self._contents:
                yield name
