"""Owns writing lists out where programs do not look for an address in the ranges of a list.

There they look for an entry as for the same prefix in a filter. Pure. It costs room for each such
table, and time for each change of a list, while nftables, which decides, keeps a list once.
Invariants:

1. What is written out has the digest of what it was made from, so that what is read back names it.
2. Tables that would have more than ``MOST_KEYS`` keys stay as they are: programs leave to nftables
   what they may match. So do those that look into ranges (``list_looks``).
3. Tables may hold the same prefix, under one rank and action; any of their rules counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipsecd.backend.xdp.list_looks import LeftTable, is_in_ranges
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.listed import keys_with_entries, with_entries
from ipsecd.model.counted_lists import counting_members
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Action

MOST_KEYS = 1 << 21
"""The most keys of one table; a million take a second or two to be laid out."""


LONG = 100_000
"""So many keys take about a tenth of a second to be laid out."""


def takes_long(classifier: Classifier) -> bool:
    """Whether programs take long to be filled with all that they look into."""
    counts = (
        keys_with_entries(table, classifier.lists) if table.id.listed else len(table)
        for table in classifier.tables
    )
    return sum(count for count in counts if count <= MOST_KEYS) > LONG


@dataclass(frozen=True)
class WrittenOut(Classifier):
    """A classifier whose tables look into lists only where programs do, or leave it to nftables.

    It was made from the one that has the digest ``of``.
    """

    of: str = ""

    @property
    def digest(self) -> str:
        """The digest of what it was made from."""
        return self.of


class Expansions:
    """What was made of the last classifiers: of one that comes next, and of the one in force."""

    def __init__(self, *, alone: bool) -> None:
        """`alone` says that nobody else judges what the programs let pass, or could count it."""
        self._alone = alone
        self._last: dict[str, Classifier] = {}

    def of(self, classifier: Classifier) -> Classifier:
        """The classifier with lists written out where need be; the same object for a digest."""
        others = not self._alone and _leaves_to_others(classifier)
        if not others and not any(map(_is_to_be_written_out, classifier.tables)):
            return classifier
        written_out = self._last.get(classifier.digest)
        if written_out is None:
            written_out = with_lists_written_out(classifier, leave_counting=others)
            newest = list(self._last.items())[-1:]
            self._last = {**dict(newest), classifier.digest: written_out}
        return written_out


def with_lists_written_out(classifier: Classifier, *, leave_counting: bool = False) -> WrittenOut:
    """The classifier with ordinary tables where programs do not look into ranges of lists.

    With `leave_counting` programs leave to nftables what matches a table whose lists count entries:
    they have no counters for these.
    """
    tables = []
    for table in classifier.tables:
        made = _written_out(table, classifier.lists) if _is_to_be_written_out(table) else table
        if made and leave_counting and _counts_entries(table, classifier):
            made = LeftTable(made.id, made.keys, made.origins, made.writers)
        tables.append(made)
    return WrittenOut(
        tuple(table for table in tables if table),
        classifier.exemptions,
        classifier.drop_unparsable,
        classifier.lists,
        of=classifier.digest,
    )


def _leaves_to_others(classifier: Classifier) -> bool:
    return any(
        _counts_entries(table, classifier)
        for table in classifier.tables
        if table.id.action is not Action.PERMIT
    )


def _counts_entries(table: Table, classifier: Classifier) -> bool:
    return any(counting_members(listed.name, classifier.lists) for _, listed in table.id.listed)


def _is_to_be_written_out(table: Table) -> bool:
    return bool(table.id.listed) and not is_in_ranges(table)


def _written_out(table: Table, lists: Mapping[str, AddressList]) -> Table | None:
    """The table with entries in its keys; None if there are none, and so nothing matches."""
    return table if keys_with_entries(table, lists) > MOST_KEYS else with_entries(table, lists)
