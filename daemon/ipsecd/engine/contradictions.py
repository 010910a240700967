"""Owns finding out what outranks a rule, and what blocks an address all the same.

Whether a packet is blocked is asked of the classifier in force: each answer is about a packet that
it has judged. How much is searched has bounds, so a batch of thousands is answered in time.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, product

from ipsecd.compiler.classifier import Table, in_order, pack
from ipsecd.compiler.listed import with_entries
from ipsecd.compiler.merge import merged_rows
from ipsecd.compiler.overlaps import AnyTable, Match, Overlaps, common_packet
from ipsecd.compiler.rows import Row, rows_of
from ipsecd.compiler.tables import TableId
from ipsecd.engine.compiling import rows_by_name
from ipsecd.engine.state import State
from ipsecd.model.addresses import JOINED, Family, Keyword, Network
from ipsecd.model.decide import decide
from ipsecd.model.fields import ME
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.lists import listed as of_networks
from ipsecd.model.packets import Host, Packet
from ipsecd.model.protected_filters import BY_SETTINGS
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin
from ipsecd.sources.dynamic import DynamicRule

ReadHost = Callable[[], Host]
"""What asks the kernel for the addresses of this host."""

MAX_TOLD = 20
MAX_BLOCKS_TOLD = 100
MAX_LISTED = 16
"""How many entries of one list and prefix length are looked at for one other entry."""
MAX_JUDGED = 400
"""How many packets are judged at most for one answer."""
MAX_COMPARED = 20_000
"""How many times at most an entry is compared with a table, where the settings protect much."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A filter that was asked for, one that decides about a packet in its place, and the packet."""

    wanted: Filter
    origin: Origin
    by: Filter
    action: Action
    packet: Packet


@dataclass(frozen=True, slots=True)
class Overruled:
    """A block of a rule, a protected filter that decides in its place, and the packet."""

    rule: Origin
    block: Filter
    by: Filter
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
        """This host with its lists; the kernel is asked only if something depends on it."""
        if self._host is None:
            self._host = replace(self.read_host(), lists=self.state.classifier.lists)
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
        for other, origin, packet, deciding in self.judgements(table, match, told):
            if deciding == origin:
                yield other, origin, packet

    def judgements(
        self, table: AnyTable, match: Match, told: Container[Origin]
    ) -> Iterator[tuple[Match, Origin, Packet, Origin | None]]:
        """Entries of a table that match a packet which `match` matches, and what rule decides."""
        for near, key in self._entries(table, match):
            origin = near.find(key)
            if origin is None or origin in told:
                continue
            other = Match.of(near.id, key)
            packet = common_packet(match, other, self.own)
            if packet is None:
                continue
            if self.judged >= MAX_JUDGED:
                return
            self.judged += 1
            volatile = self.state.volatile.tables
            verdict = self.state.classifier.lookup(packet, self.host, volatile)
            yield other, origin, packet, verdict.origin

    def blocking(self, table: AnyTable, match: Match) -> Iterator[tuple[Match, Origin, Packet]]:
        """Entries of a table that would block a packet which `match` matches, if no other did."""
        for near, key in self._entries(table, match):
            other = Match.of(near.id, key)
            packet = common_packet(match, other, self.own)
            origin = near.find(key)
            if packet is None or origin is None or not self._is_blocked(packet):
                continue
            permits = (
                each for each in self.tables(Action.PERMIT)
                if (key_there := each.id.key_of(packet, self.host)) is not None
                and each.find(key_there) is not None
            )  # fmt: skip
            above = in_order([near, *permits], packet.point)
            if above[0] is near:
                yield other, origin, packet

    def matches(self, row: Row) -> Iterator[Match]:
        """What an entry of a dynamic rule matches: for each of the first entries of its lists."""
        yield from self.matches_of(Table(row.table, row.key, (row.filter_in_force.origin,)))

    def matches_of(self, whole: Table) -> Iterator[Match]:
        """What the entries of a table match, with the first entries of its lists in their keys."""
        table = self._with_entries(whole, None) if whole.id.listed else whole
        if table:
            width = table.id.key_width
            for at in range(len(table)):
                yield Match.of(table.id, table.keys[at * width : (at + 1) * width])

    def _entries(self, table: AnyTable, match: Match) -> Iterator[tuple[AnyTable, bytes]]:
        """The entries of a table that match a packet which `match` matches, some of them.

        Where the table looks into lists, those of one in whose keys their entries stand.
        """
        if table.id.family is not match.table.family:
            return
        near: AnyTable | None = table
        if table.id.listed:
            if not isinstance(table, Table):
                keys = islice(table.entries, MAX_LISTED)
                table = pack(table.id, {key: by for key in keys if (by := table.find(key))})
            near = self._with_entries(table, match)
        if near:
            for key in self.overlaps.find(near, match, self.own):
                yield near, key

    def _with_entries(self, table: Table, match: Match | None) -> Table | None:
        """The table with a few entries of its lists in its keys: of those that `match` can meet."""
        few: dict[str, AddressList] = {}
        for field_of_list, listed in table.id.listed:
            form = Form(table.id.family, listed.length)
            members = self.state.classifier.lists.get(listed.name, AddressList())
            packed = members.entries.get(form, b"")
            length = match.length(field_of_list.name) if match else 0
            if match and length > 0:
                value = match.values[field_of_list.name]
                around = AddressList({form: packed}).sharing(Network(form.family, value, length))
            elif length == ME:
                around = (
                    network
                    for own in self.own(form.family)
                    for network in AddressList({form: packed}).sharing(
                        Network(form.family, own, form.family.bits)
                    )
                )
            else:
                around = AddressList({form: packed[: MAX_LISTED * form.width]}).networks()
            earlier = few.get(listed.name, AddressList()).networks()
            few[listed.name] = of_networks(chain(earlier, islice(around, MAX_LISTED)))
        return with_entries(table, few)

    def _is_blocked(self, packet: Packet) -> bool:
        volatile = self.state.volatile.tables
        return self.state.classifier.lookup(packet, self.host, volatile).action is Action.BLOCK


def outranking(
    state: State, rules: Sequence[DynamicRule], overlaps: Overlaps, read_host: ReadHost
) -> tuple[Contradiction, ...]:
    """What in force decides about packets that dynamic rules of one action match, against it.

    Each rule that does is named once, and at most ``MAX_TOLD`` are. Nothing is against an audit.
    """
    action = rules[0].action if rules else Action.BLOCK
    if action is Action.AUDIT:
        return ()
    opposite = Action.PERMIT if action is Action.BLOCK else Action.BLOCK
    search = _Search(state, overlaps, read_host)
    tables = search.tables(opposite) if state.enforcing else []
    if not tables:
        return ()
    rows = [
        row
        for of_rule in rows_by_name(rules, state.inventory, state.lists).values()
        for row in of_rule
    ]
    by_origin: dict[Origin, Contradiction] = {}
    if any(table.id.protected for table in tables):
        # These outrank every rule. Few are compared with many, and not the other way round.
        for each in islice(_overruled(search, _tables_of(rows)), 1):
            of_rule = [r.filter_in_force for r in rows if r.filter_in_force.origin == each.rule]
            wanted = decide(of_rule, each.packet, search.host).by
            if wanted is not None:
                by_origin[BY_SETTINGS] = Contradiction(
                    wanted.filter, BY_SETTINGS, each.by, opposite, each.packet
                )
        tables = [table for table in tables if not table.id.protected]
    above: dict[TableId, list[AnyTable]] = {}
    for row in rows:
        if row.table not in above:
            rank = row.table.rank
            above[row.table] = [table for table in tables if table.id.rank > rank]
        if not above[row.table]:
            continue
        wanted_filter = row.filter_in_force.filter
        for match, table in product(search.matches(row), above[row.table]):
            for other, origin, packet in search.decisive(table, match, by_origin):
                by_origin[origin] = Contradiction(
                    wanted_filter, origin, other.filter, opposite, packet
                )
                if len(by_origin) >= MAX_TOLD:
                    return tuple(by_origin.values())
    return tuple(by_origin.values())


def overruled_rules(
    state: State, rules: Iterable[DynamicRule], read_host: ReadHost
) -> tuple[Overruled, ...]:
    """The blocks of dynamic rules that protected filters overrule; see ``overruled_policy``."""
    if not state.compiled.protected or not state.enforcing:
        return ()
    blocks = [rule for rule in rules if rule.action is Action.BLOCK]
    by_name = rows_by_name(blocks, state.inventory, state.lists)
    tables = _tables_of(row for rows in by_name.values() for row in rows)
    return tuple(_overruled(_Search(state, Overlaps(), read_host), tables))


def overruled_policy(state: State, read_host: ReadHost) -> tuple[Overruled, ...]:
    """The blocks of the policy that protected filters overrule; for any thread.

    Each rule is named once, and at most ``MAX_TOLD`` are.
    """
    if not state.compiled.protected or not state.enforcing:
        return ()
    blocks = [table for table in state.classifier.tables if table.id.action is Action.BLOCK]
    # What others remember of tables belongs to the kernel's line.
    return tuple(_overruled(_Search(state, Overlaps(), read_host), blocks))


def overruled_entries(
    state: State, name: str, entries: AddressList, read_host: ReadHost
) -> tuple[Overruled, ...]:
    """The same of what rules block by some `entries` of a list."""
    if not state.compiled.protected or not state.enforcing:
        return ()
    search = _Search(_with_list(state, name, entries), Overlaps(), read_host)
    blocks = [
        table
        for table in search.tables(Action.BLOCK)
        if any(_has(listed.name, name) for _, listed in table.id.listed)
    ]
    return tuple(_overruled(search, blocks))


def _overruled(search: _Search, blocks: Sequence[AnyTable]) -> Iterator[Overruled]:
    """What protected filters overrule of tables that block."""
    protected = search.state.compiled.protected_in_force
    matches = (
        match
        for table in search.state.classifier.tables
        if table.id.protected
        for match in search.matches_of(table)
    )
    told: set[Origin] = set()
    pairs = ((match, table) for match in matches for table in blocks)
    for match, table in islice(pairs, MAX_COMPARED):
        for other, rule, packet, deciding in search.judgements(table, match, told):
            by = decide(protected, packet, search.host).by
            if by is not None and deciding == BY_SETTINGS:
                told.add(rule)
                yield Overruled(rule, other.filter, by.filter, packet)
            if len(told) >= MAX_TOLD:
                return


def _tables_of(rows: Iterable[Row]) -> list[AnyTable]:
    """The tables that rows make by themselves."""
    return [pack(table, entries) for table, entries in merged_rows(rows).items()]


def _has(names: str, name: str) -> bool:
    """Whether a list is the one that tables look into, or one of several together."""
    return name in names.split(JOINED)


def _with_list(state: State, name: str, entries: AddressList) -> State:
    """The state, where tables that look into a list find only some `entries` there."""
    lists = {
        names: entries if _has(names, name) else members
        for names, members in state.classifier.lists.items()
    }
    return replace(state, classifier=replace(state.classifier, lists=lists))


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
