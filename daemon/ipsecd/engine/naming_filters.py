"""Owns finding which filter of a rule an entry of a table stands for; must not know packets' bytes.

A rule may have a hundred thousand filters, so those of a long rule are found by the entries that
they have, which are written out once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsecd.compiler.classifier import Entry
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.tables import TableId
from ipsecd.engine.state import State
from ipsecd.engine.view import filters_of_rule
from ipsecd.errors import IpsecdError
from ipsecd.model.decide import best_first, matches_of
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Filter, InForce, Origin

FEW = 16
"""As many filters are asked one after the other whether they match."""
MOST = 200_000
"""More filters than this of one rule are not written out: the rule alone is named then."""

ByEntry = Mapping[TableId, Mapping[bytes, Filter]]


class FilterNames:
    """The filters of the rules of one policy, as far as somebody has asked for them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._filters: dict[Origin, Sequence[InForce]] = {}
        self._by_entry: dict[Origin, ByEntry] = {}

    def suits(self, state: State) -> bool:
        """Whether these are the filters of the policy in that state, too."""
        own = self._state
        return state.compiled is own.compiled and state.inventory is own.inventory

    def of(self, state: State, entry: Entry, packet: Packet, host: Host) -> Filter | None:
        """The filter that decided about `packet` by `entry`; None if it cannot be told."""
        try:
            if entry.origin.volatile:
                return _first(filters_of_rule(state, entry.origin), packet, host)
            filters = self._filters.get(entry.origin)
            if filters is None:
                filters = self._filters[entry.origin] = filters_of_rule(state, entry.origin)
            if len(filters) <= FEW or entry.table.listed:
                return _first(filters[:MOST], packet, host)
            return (
                self._written_out(entry.origin, filters)
                .get(entry.table._replace(selected=False), {})
                .get(entry.key)
            )
        except IpsecdError:
            # A name that was not looked up has no entries, and the filter is another one.
            return None

    def _written_out(self, origin: Origin, filters: Sequence[InForce]) -> ByEntry:
        by_entry = self._by_entry.get(origin)
        if by_entry is None:
            made: dict[TableId, dict[bytes, Filter]] = {}
            for table, key, in_force in rows_of(filters[:MOST]):
                made.setdefault(table, {}).setdefault(key, in_force.filter)
            by_entry = self._by_entry[origin] = made
        return by_entry


def _first(filters: Sequence[InForce], packet: Packet, host: Host) -> Filter | None:
    """The one that has the best match; None if none matches."""
    found = [
        (best_first(match), number)
        for number, in_force in enumerate(filters)
        for match in matches_of(in_force, packet, host)
    ]
    return filters[min(found)[1]].filter if found else None
