"""Owns compilation of filters in force to a classifier; pure, whatever the order of the filters."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.merge import merged_rows
from ipsecd.compiler.tables import rows_of
from ipsecd.model.values import InForce


def compile_filters(
    in_force: Iterable[InForce],
    exemptions: Iterable[str] = (),
    *,
    drop_unparsable: bool = True,
) -> Classifier:
    """The classifier of the filters `in_force`; the same filters in any order give the same one.

    Raises ``Refused`` for a filter whose DNS name has not been resolved.
    """
    packed = [pack(table, entries) for table, entries in merged_rows(rows_of(in_force)).items()]
    packed.sort(key=lambda table: table.id.order)
    return Classifier(tuple(packed), tuple(sorted(exemptions)), drop_unparsable)
