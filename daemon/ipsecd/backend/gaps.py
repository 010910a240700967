"""Owns the words for what of the rules in force a kernel cannot judge; must not ask any kernel."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.compiler.tables import TableId
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point
from ipsecd.model.values import Action


def unseen_senders(tables: Iterable[TableId], why: str) -> tuple[str, ...]:
    """One sentence if there is a block from ``me`` among the `tables`, else none.

    It is for a kernel that does not tell who sends a packet, for the reason in `why`.
    """
    if not any(
        table.action is Action.BLOCK and table.source == ME and Point.SENDING in table.points
        for table in tables
    ):
        return ()
    unseen = "what it sends from an address that is not its own"
    return (f"blocks of what is from this host do not see {unseen}: {why}",)
