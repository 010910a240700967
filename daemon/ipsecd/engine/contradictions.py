"""Owns finding out what outranks a dynamic rule, and what blocks an address all the same.

Whether a packet is blocked is asked of the classifier in force: each answer is about a packet that
it has judged. How much is searched has bounds, so a batch of thousands is answered in time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ipsecd.compiler.classifier import in_order
from ipsecd.compiler.overlaps import AnyTable, Match, Overlaps, common_packet
from ipsecd.compiler.tables import TableId, rows_of
from ipsecd.engine.compiling import rows_by_name
from ipsecd.engine.state import State
from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.fields import ME
from ipsecd.model.packets import Host, Packet
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin
from ipsecd.sources.dynamic import DynamicRule

ReadHost = Callable[[], Host]
"""What asks the kernel for the addresses of this host."""

MAX_TOLD = 20
MAX_BLOCKS_TOLD = 100
MAX_JUDGED = 400
"""How many packets are judged at most for one answer."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A filter that was asked for, one that decides about a packet in its place, and the packet."""

    wanted: Filter
    origin: Origin
    by: Filter
    action: Action
    packet: Packet


@dataclass(slots=True)
class _Search:
    """One search in one state."""

    state: State
    overlaps: Overlaps
    read_host: ReadHost
    judged: int = 0
    _host: Host | None = None
    _own: dict[Family, tuple[int, ...]] = field(default_factory=dict)

    @property
    def host(self) -> Host:
        """This host; the kernel is asked only if something depends on it."""
        if self._host is None:
            self._host = self.read_host()
        return self._host

    def own(self, family: Family) -> Sequence[int]:
        """The addresses of this host."""
        if family not in self._own:
            addresses = [address for kind, address in self.host.addresses if kind is family]
            # Nobody else reaches those of the loopback interface.
            self._own[family] = tuple(
                sorted(addresses, key=lambda each: (_is_loopback(each), each))
            )
        return self._own[family]

    def tables(self, action: Action) -> list[AnyTable]:
        """The tables of one action."""
        every: Iterable[AnyTable] = chain(self.state.classifier.tables, self.state.volatile.tables)
        return [table for table in every if table.id.action is action]

    def decisive(
        self, table: AnyTable, match: Match, told: Container[Origin] = ()
    ) -> Iterator[tuple[Match, Origin, Packet]]:
        """Entries of a table that decide about a packet which `match` matches.

        Those of rules that were `told` already are left out.
        """
        for key in self.overlaps.find(table, match, self.own):
            origin = table.find(key)
            if origin is None or origin in told:
                continue
            other = Match.of(table.id, key)
            packet = common_packet(match, other, self.own)
            if packet is None:
                continue
            if self.judged >= MAX_JUDGED:
                return
            self.judged += 1
            volatile = self.state.volatile.tables
            if self.state.classifier.lookup(packet, self.host, volatile).origin == origin:
                yield other, origin, packet

    def blocking(self, table: AnyTable, match: Match) -> Iterator[tuple[Match, Origin, Packet]]:
        """Entries of a table that would block a packet which `match` matches, if no other did."""
        for key in self.overlaps.find(table, match, self.own):
            other = Match.of(table.id, key)
            packet = common_packet(match, other, self.own)
            origin = table.find(key)
            if packet is None or origin is None or not self._is_blocked(packet):
                continue
            permits = (
                each for each in self.tables(Action.PERMIT)
                if (key_there := each.id.key_of(packet, self.host)) is not None
                and each.find(key_there) is not None
            )  # fmt: skip
            above = in_order([table, *permits], packet.point)
            if above[0] is table:
                yield other, origin, packet

    def _is_blocked(self, packet: Packet) -> bool:
        volatile = self.state.volatile.tables
        return self.state.classifier.lookup(packet, self.host, volatile).action is Action.BLOCK


def outranking(
    state: State, rules: Sequence[DynamicRule], overlaps: Overlaps, read_host: ReadHost
) -> tuple[Contradiction, ...]:
    """What in force decides about packets that dynamic rules of one action match, against it.

    Each rule that does is named once, and at most ``MAX_TOLD`` are.
    """
    search = _Search(state, overlaps, read_host)
    action = rules[0].action if rules else Action.BLOCK
    opposite = Action.PERMIT if action is Action.BLOCK else Action.BLOCK
    tables = search.tables(opposite) if state.enforcing else []
    if not tables:
        return ()
    above: dict[TableId, list[AnyTable]] = {}
    by_origin: dict[Origin, Contradiction] = {}
    for rows in rows_by_name(rules, state.inventory).values():
        for row in rows:
            if row.table not in above:
                rank = row.table.rank
                above[row.table] = [table for table in tables if table.id.rank > rank]
            if not above[row.table]:
                continue
            match = Match.of(row.table, row.key)
            for table in above[row.table]:
                for other, origin, packet in search.decisive(table, match, by_origin):
                    wanted = row.filter_in_force.filter
                    by_origin[origin] = Contradiction(
                        wanted, origin, other.filter, opposite, packet
                    )
                    if len(by_origin) >= MAX_TOLD:
                        return tuple(by_origin.values())
    return tuple(by_origin.values())


def blocks_of(
    state: State, network: Network, overlaps: Overlaps, read_host: ReadHost
) -> tuple[Contradiction, ...]:
    """The filters that block `network` as a whole: by it, a wider network, or all there is.

    A port that is closed to everybody is none of them.
    """
    if not state.enforcing:
        return ()
    search = _Search(state, overlaps, read_host)
    about = Filter(Endpoint(network), Endpoint(Keyword.ME), mirrored=True)
    asked = InForce(Origin("", "", ""), about, Action.PERMIT)
    blocks: dict[tuple[Origin, Filter], Contradiction] = {}
    for row in rows_of([asked]):
        match = Match.of(row.table, row.key)
        for table in search.tables(Action.BLOCK):
            length = table.id.source if row.table.destination == ME else table.id.destination
            if length > network.length or not (length > 0 or _is_of_everything(table.id)):
                continue
            for other, origin, packet in search.blocking(table, match):
                blocks.setdefault(
                    (origin, other.filter),
                    Contradiction(about, origin, other.filter, Action.BLOCK, packet),
                )
                if len(blocks) >= MAX_BLOCKS_TOLD:
                    return tuple(blocks.values())
    return tuple(blocks.values())


def _is_of_everything(table: TableId) -> bool:
    """Whether a table looks at no more than the addresses, and on which link."""
    return not table.looks.keys() & {
        *("protocol", "source_ports", "destination_ports", "message", "process")
    }


def _is_loopback(address: int) -> bool:
    return address == 1 or address >> 24 == 127
