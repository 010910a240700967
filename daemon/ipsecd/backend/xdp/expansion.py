"""Owns writing lists out: programs look for an entry of a list as for the same prefix in a filter.

Pure. It costs room for each table that looks into a list, and time for each change of one, while
nftables, which decides, keeps a list once. Invariants:

1. What is written out has the digest of what it was made from, so that what is read back names it.
2. Tables that would have more than ``MOST_KEYS`` keys stay as they are: programs leave to nftables
   what they may match.
3. Tables may hold the same prefix, under one rank and action; any of their rules counts it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.tables import TableId
from ipsecd.model.lists import AddressList, Form

MOST_KEYS = 1 << 21
"""The most keys of one table; a million take a second or two to be laid out."""


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
    table_id = table.id
    shapes = {field.name: listed.length for field, listed in table_id.listed}
    plain = table_id.reshaped(**shapes)
    entries = {
        field.name: _entries(table_id, lists.get(listed.name), listed.length)
        for field, listed in table_id.listed
    }
    width = table_id.family.bits // 8
    count = len(table)
    for packed in entries.values():
        count *= len(packed) // width
    if not count:
        return None
    if count > MOST_KEYS:
        return table
    if plain.key_width == width and not table_id.key_width and len(entries) == 1:
        # All that the keys hold is the address: they are the list as it is.
        (packed,) = entries.values()
        return Table(plain, packed, table.origins)
    pairs = sorted(_pairs(table, plain, entries))
    writers = array("I", (writer for _, writer in pairs)) if table.writers else array("I")
    return Table(plain, b"".join(key for key, _ in pairs), table.origins, writers)


def _entries(table_id: TableId, members: AddressList | None, length: int) -> bytes:
    if members is None:
        return b""
    return members.entries.get(Form(table_id.family, length), b"")


def _pairs(
    table: Table, plain: TableId, entries: Mapping[str, bytes]
) -> Iterator[tuple[bytes, int]]:
    """The keys of the plain table, each with the number of the rule that wrote it."""
    size = plain.family.bits // 8
    own = {part.field.name: part for part in table.id.parts}
    lists = {
        name: [packed[at : at + size] for at in range(0, len(packed), size)]
        for name, packed in entries.items()
    }
    width = table.id.key_width
    for index in range(len(table)):
        key = table.keys[index * width : (index + 1) * width]
        choices = []
        for part in plain.parts:
            name, padded = part.field.name, part.size + -part.size % 4
            if name in own:
                offset = own[name].offset
                choices.append([key[offset : offset + padded]])
            else:
                choices.append(lists[name])
        writer = table.writers[index] if table.writers else 0
        # The one entry of the length 0 is no part of keys: it covers every address.
        for chosen in product(*choices):
            yield b"".join(chosen), writer
