"""Owns compilation of filters in force to a classifier; pure, whatever the order of the filters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.merge import merged_rows
from ipsecd.compiler.rows import rows_of
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.values import InForce

NO_LISTS: Mapping[str, AddressList] = {}


def compile_filters(
    in_force: Iterable[InForce],
    exemptions: Iterable[str] = (),
    *,
    drop_unparsable: bool = True,
    lists: Mapping[str, AddressList] = NO_LISTS,
) -> Classifier:
    """The classifier of the filters `in_force`; the same filters in any order give the same one.

    Those that name lists match what `lists` have; one that is not among them matches nothing.
    Raises ``Refused`` for a filter whose DNS name has not been resolved.
    """
    rows = rows_of(with_lengths(in_force, lists))
    packed = [pack(table, entries) for table, entries in merged_rows(rows).items()]
    packed.sort(key=lambda table: table.id.order)
    classifier = Classifier(tuple(packed), tuple(sorted(exemptions)), drop_unparsable)
    return classifier.with_lists(lists)
