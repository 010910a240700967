"""Owns where a program can judge as nftables would; must not know how either does it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ipsecd.backend.nftables.translation import may_be_translated
from ipsecd.backend.nftables.wire import KernelError, NftSocket
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.compiler.classifier import Classifier, HasTableId
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Point


def judgeable_points(classifier: Classifier, volatile: Volatile) -> frozenset[Point]:
    """The points at which a program knows all of a packet that nftables would judge it by."""
    tables: list[HasTableId] = [*classifier.tables, *volatile.tables]
    points = {Point.ARRIVING}
    if not _need_translation(tuple(table.id for table in tables)):
        points.add(Point.LEAVING)
    sending = [table for table in tables if Point.SENDING in table.id.points]
    if sending and not any(t.id.process for t in sending) and not _may_translate():
        points.add(Point.SENDING)
    return frozenset(points)


class _Table(NamedTuple):
    """A table of which nothing but its identity counts."""

    id: TableId


@lru_cache(maxsize=8)
def _need_translation(ids: tuple[TableId, ...]) -> bool:
    """Whether tables need to know of source translation, in either IP version.

    It is asked at every ban, and few bans bring a table that was not there.
    """
    tables = [_Table(id_) for id_ in ids]
    return any(needs_translation(tables, family) for family in Family)


def _may_translate() -> bool:
    socket = NftSocket()
    try:
        return may_be_translated(socket)
    except KernelError:
        return True
    finally:
        socket.close()
