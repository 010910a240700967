"""Owns where a program can judge as nftables would; must not know how either does it."""

from __future__ import annotations

from ipsecd.backend.nftables.translation import may_be_translated
from ipsecd.backend.nftables.wire import KernelError, NftSocket
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.compiler.classifier import Classifier, HasTableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Point


def judgeable_points(classifier: Classifier, volatile: Volatile) -> frozenset[Point]:
    """The points at which a program knows all of a packet that nftables would judge it by."""
    tables: list[HasTableId] = [*classifier.tables, *volatile.tables]
    points = {Point.ARRIVING}
    if not any(needs_translation(tables, family) for family in Family):
        points.add(Point.LEAVING)
    sending = [table for table in tables if Point.SENDING in table.id.points]
    if sending and not any(t.id.process for t in sending) and not _may_translate():
        points.add(Point.SENDING)
    return frozenset(points)


def _may_translate() -> bool:
    socket = NftSocket()
    try:
        return may_be_translated(socket)
    except KernelError:
        return True
    finally:
        socket.close()
