"""Owns telling what keeps the host from knowing connections, where rules ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecd.host.connections import read_connection_table

if TYPE_CHECKING:
    from ipsecd.engine import Engine

_MORE_ROOM = "raise it with: sysctl -w net.netfilter.nf_conntrack_max=NUMBER"


def troubles_with_connections(engine: Engine) -> list[str]:
    """A sentence for the table of connections if it is full, or has been."""
    if engine.stopped or engine.held:
        return []
    opening = any(table.id.opening for table in engine.classifier.tables)
    opening = opening or any(table.id.opening for table in engine.volatile.tables)
    table = read_connection_table() if opening else None
    if table is None:
        return []
    trouble = ""
    if table.is_full:
        trouble = (
            f"is full, with {table.limit:,} of them: what would open another one is dropped, in "
            "and out"
        )
    elif table.dropped:
        trouble = (
            f"has been full, with {table.limit:,} of them, and {table.dropped:,} packets that "
            "would have opened another one were dropped"
        )
    return [f"the kernel's table of connections {trouble}; {_MORE_ROOM}"] if trouble else []
