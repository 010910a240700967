"""Owns the comparison of the table in the kernel with what was written to it; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.contents import about_others
from ipsecd.backend.nftables.expressions import NFPROTO
from ipsecd.backend.nftables.lists import ListSets
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import (
    CONTENTS,
    COUNTED,
    STATE_PREFIX,
    TABLE,
    kernel_key_width,
    kernel_keys,
    serial_of,
)
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier, Table, in_order
from ipsecd.compiler.tables import TableId
from ipsecd.model.lists import split

COMPARED_ELEMENTS = 4096
"""Sets up to this size are compared element by element when the state is read back."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A set of the policy that is in the kernel."""

    table: Table
    kernel: KernelTable

    @property
    def in_kernel(self) -> KernelTable:
        """The table as the kernel holds it, with its key if it has one alone."""
        if len(self.table) > 1:
            return self.kernel
        return replace(self.kernel, only_key=self.table.keys)


def in_kernel(
    policy: Mapping[TableId, PolicySet], dynamic: Mapping[TableId, KernelTable]
) -> list[KernelTable]:
    """All tables that the kernel holds, in the order of their rank."""
    return in_order([*(policy_set.in_kernel for policy_set in policy.values()), *dynamic.values()])


def compare(
    reader: TableReader,
    classifier: Classifier | None,
    sets: Iterable[PolicySet],
    lists: ListSets,
    fingerprint: str,
    *,
    foreign_change: bool,
) -> Observation:
    """What the table holds, and how it differs from `classifier`, whose tables are in `sets`.

    `lists` are the sets of entries of lists.
    `fingerprint` is that of the table after the last change. `foreign_change` says that somebody
    else has changed the table since. Without a classifier there should be no table.
    """
    if not reader.exists():
        missing = (f"table inet {TABLE} is missing",) if classifier else ()
        return Observation(None, missing)
    marks = [name for name in reader.chains() if name.startswith(STATE_PREFIX)]
    digest = marks[0].removeprefix(STATE_PREFIX) if len(marks) == 1 else None
    if classifier is None:
        return Observation(digest, (f"table inet {TABLE} is there and should not be",))
    drift: list[str] = []
    if digest != classifier.digest:
        drift.append(f"the kernel holds policy {digest}, not {classifier.digest}")
    if reader.fingerprint() != fingerprint:
        drift.append(f"the chains, rules or sets of table inet {TABLE} were changed")
    if foreign_change:
        # The change may be in what is not compared: large sets and dynamic ones are not read.
        drift.append(f"somebody else changed table inet {TABLE}")
    drift += [f"the elements of set {name} were changed" for name in _changed_sets(reader, sets)]
    drift += [f"the elements of set {name} were changed" for name in _changed(reader, lists)]
    return Observation(digest, tuple(drift))


def unused(
    reader: TableReader, sets: set[str], counters: set[str]
) -> tuple[list[Message], list[str]]:
    """Messages that delete the sets and counters of the table, except those that are given.

    Also the names of the sets that they delete. Sets that count entries of lists stay until what
    they hold has been read.
    """
    unused_sets = [
        name
        for name in reader.sets()
        if serial_of(name) and name not in sets and not name.startswith(COUNTED)
    ]
    unused_counters = [name for name in reader.counters() if name not in counters]
    # It costs a dump, which is short, and only where sets go.
    named = [key for key, _ in reader.elements(CONTENTS)] if unused_sets else []
    steps = [
        *about_others(named, sets),
        *(nft.delete_set(TABLE, name) for name in unused_sets),
        *(nft.delete_counter(TABLE, name) for name in unused_counters),
    ]
    return steps, unused_sets


def _changed_sets(reader: TableReader, sets: Iterable[PolicySet]) -> Iterator[str]:
    """The names of the sets whose elements are not what was written."""
    for name, keys in tx.FIXED_SETS.items():
        if {key for key, _ in reader.elements(name)} != set(keys):
            yield name
    for policy_set in sets:
        if len(policy_set.table) <= COMPARED_ELEMENTS and not _is_unchanged(reader, policy_set):
            yield policy_set.kernel.set_name


def _changed(reader: TableReader, lists: ListSets) -> Iterator[str]:
    """The names of the sets of lists whose elements are not what was written.

    Of a long one it looks how many there are, where the kernel says so.
    """
    lengths = reader.lengths() if lists else {}
    for form, list_set in lists.items():
        name, count = list_set.set_name, list_set.members.count(form.of_entries)
        if lengths.get(name, count) != count:
            yield name
        elif count <= COMPARED_ELEMENTS:
            wanted = set(split(form.packed(list_set.members), form.width))
            if {key for key, _ in reader.elements(name)} != wanted:
                yield name


def _is_unchanged(reader: TableReader, policy_set: PolicySet) -> bool:
    table = policy_set.table
    keys = kernel_keys(table.id, table.keys, NFPROTO[table.id.family])
    width = kernel_key_width(table.id)
    wanted = {keys[i : i + width] for i in range(0, len(keys), width)}
    return {key for key, _ in reader.elements(policy_set.kernel.set_name)} == wanted
