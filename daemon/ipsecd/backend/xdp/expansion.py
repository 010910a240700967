"""Owns writing lists out: programs look for an entry of a list as for the same prefix in a filter.

Pure. It costs room for each table that looks into a list, and time for each change of one, while
nftables, which decides, keeps a list once. Invariants:

1. What is written out has the digest of what it was made from, so that what is read back names it.
2. Tables that would have more than ``MOST_KEYS`` keys stay as they are: programs leave to nftables
   what they may match.
3. Tables may hold the same prefix, under one rank and action; any of their rules counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.listed import keys_with_entries, with_entries
from ipsecd.model.lists import AddressList

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
    """A classifier whose tables look into no list, made from the one that has the digest ``of``."""

    of: str = ""

    @property
    def digest(self) -> str:
        """The digest of what it was made from."""
        return self.of


class Expansions:
    """What was made of the last classifiers: of one that comes next, and of the one in force."""

    def __init__(self) -> None:
        self._last: dict[str, Classifier] = {}

    def of(self, classifier: Classifier) -> Classifier:
        """The classifier with its lists written out; the same object for the same digest."""
        if not any(table.id.listed for table in classifier.tables):
            return classifier
        written_out = self._last.get(classifier.digest)
        if written_out is None:
            written_out = with_lists_written_out(classifier)
            newest = list(self._last.items())[-1:]
            self._last = {**dict(newest), classifier.digest: written_out}
        return written_out


def with_lists_written_out(classifier: Classifier) -> WrittenOut:
    """The classifier with ordinary tables in the place of those that look into lists."""
    tables = (
        _written_out(table, classifier.lists) if table.id.listed else table
        for table in classifier.tables
    )
    return WrittenOut(
        tuple(table for table in tables if table),
        classifier.exemptions,
        classifier.drop_unparsable,
        of=classifier.digest,
    )


def _written_out(table: Table, lists: Mapping[str, AddressList]) -> Table | None:
    """The table with entries in its keys; None if there are none, and so nothing matches."""
    return table if keys_with_entries(table, lists) > MOST_KEYS else with_entries(table, lists)
