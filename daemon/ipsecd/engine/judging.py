"""Owns which connections a state cuts, and by which filter; must not know where they are from.

It is judged by the compiled state, which takes no longer with many filters than a packet does. The
filter that decides is looked for in the rule that the tables name.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.backend.nftables import cgroups
from ipsecd.compiler.classifier import Entry, HasTableId, Lookups
from ipsecd.engine.state import State
from ipsecd.engine.view import filters_of_rule
from ipsecd.errors import Cut
from ipsecd.language.filters import format_filter
from ipsecd.language.packets import format_packet
from ipsecd.model.addresses import Process
from ipsecd.model.connections import Connection
from ipsecd.model.decide import decide
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Action, InForce, Origin

MOST_COMPARISONS = 500_000
"""How many filters are compared with packets to name those that decide: some seconds."""


class Judge:
    """Judges packets by a state."""

    def __init__(self, state: State, host: Host) -> None:
        self._state = state
        self._host = replace(host, lists=state.lists)
        tables: tuple[HasTableId, ...] = (*state.classifier.tables, *state.volatile.tables)
        self._lookups = Lookups(state.classifier, host, state.volatile.tables)
        named = {table.id.process for table in tables}
        self._senders = [Process(*text.split(":", 1)) for text in sorted(named) if text]
        self._senders_by_group: dict[int, frozenset[Process]] = {}
        self._rules: dict[Origin, tuple[InForce, ...]] = {}
        self._filters: dict[Entry, str] = {}
        self._comparisons_left = MOST_COMPARISONS

    def blocked(self, connection: Connection) -> Packet | None:
        """A packet of a connection for which it does not go on; None if it goes on."""
        return self._sent(connection).cut_by(self._blocks)

    def held_up(self, connection: Connection) -> Packet | None:
        """A packet for which a connection that is not cut may be cut all the same."""
        return self._sent(connection).held_up_by(self._blocks)

    def _sent(self, connection: Connection) -> Connection:
        """The connection with what filters name among those who send it."""
        if not (self._senders and connection.cgroup):
            return connection
        senders = self._senders_of(connection.cgroup)
        outward = tuple(replace(each, processes=senders) for each in connection.outward)
        return replace(connection, outward=outward)

    def _senders_of(self, group: int) -> frozenset[Process]:
        if group not in self._senders_by_group:
            senders = (each for each in self._senders if cgroups.has(each, group))
            self._senders_by_group[group] = frozenset(senders)
        return self._senders_by_group[group]

    def _blocks(self, packet: Packet) -> bool:
        entry = self._lookups.entry(packet)
        return entry is not None and entry.action is Action.BLOCK

    def cut(self, connection: Connection, packet: Packet) -> Cut:
        """What is cut, with the filter that decides about the packet.

        The filter is empty once it took too many comparisons to name those of others.
        """
        text = format_packet(packet)
        entry = self._lookups.entry(packet)
        if entry is None:
            return Cut(connection.name, text)
        origin = entry.origin
        deciding = self._deciding_filter(entry, packet)
        return Cut(connection.name, text, deciding, origin.rule, origin.policy, origin.store)

    def _deciding_filter(self, entry: Entry, packet: Packet) -> str:
        """The filter that an entry was made of, which is the same for all packets of the entry."""
        if entry not in self._filters:
            if entry.origin not in self._rules:
                self._rules[entry.origin] = filters_of_rule(self._state, entry.origin)
            filters = self._rules[entry.origin]
            if self._comparisons_left <= 0:
                return ""
            self._comparisons_left -= len(filters)
            by = decide(filters, packet, self._host).by
            self._filters[entry] = format_filter(by.filter) if by else ""
        return self._filters[entry]


class Comparison:
    """Judges connections by the state before a change and the state after it."""

    def __init__(self, before: State, after: State, host: Host) -> None:
        self._was_enforcing, self._enforces = before.enforcing, after.enforcing
        self._before = Judge(before, host)
        # Lists that nothing named before are not in the classifier yet.
        self.after = Judge(after.with_used_lists(), host)

    def newly_blocked(self, connection: Connection) -> Packet | None:
        """A packet of a connection that the change cuts, and that was not cut before."""
        packet = self.after.blocked(connection) if self._enforces else None
        if packet and self._was_enforcing and self._before.blocked(connection):
            return None
        return packet

    def newly_held_up(self, connection: Connection) -> Packet | None:
        """The same where a connection that the change does not cut may be cut all the same."""
        packet = self.after.held_up(connection) if self._enforces else None
        if packet and self._was_enforcing:
            before = self._before
            if before.blocked(connection) or before.held_up(connection):
                return None
        return packet
