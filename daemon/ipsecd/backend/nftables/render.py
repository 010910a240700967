"""Owns the translation of tables into chains and rules: which set is looked into where.

Pure: the same tables give the same rules. Invariants:

1. A packet meets the tables in the order of their rank, and the first one that has its key
   decides; so the rules of a chain are in that order.
2. What needs ports is never looked up for a later fragment, nor for a packet whose ports cannot
   be read: such packets take a chain of their own, or are dropped as unparsable.
3. No rule loads anything that connection tracking knows unless a permit has to keep its rank
   against a block of what leaves under this host's address, or somebody translates addresses.
4. A packet counts once: a permit that is looked at again, because the packet is delivered here
   or leaves, counts no more; a block that is looked at again has not dropped it before.

What arrives is looked at twice (docs/decisions/0009-second-look-at-input.md). The first look asks
whether the destination is this host's before the stack decides on that; what is delivered here is
looked at again with the answer of the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.cgroups import Group
from ipsecd.backend.nftables.exempt import conditions
from ipsecd.backend.nftables.keys import as_arrived, from_packet, key_of
from ipsecd.backend.nftables.messages import ACCEPT, DROP, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import (
    DELIVERED,
    DIALUP_TYPES,
    UNPARSABLE,
    WITH_PORTS,
    chain,
    describe,
    uncounted_name,
)
from ipsecd.compiler.classifier import in_order
from ipsecd.compiler.tables import ME, TableId
from ipsecd.model.exemptions import Pattern, exemption
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Family, Origin

LOOPBACK_INDEX = 1
"""The loopback interface of every network namespace (LOOPBACK_IFINDEX)."""

_DELIVERED_TYPES = ex.host32(ex.RTN_LOCAL), ex.host32(ex.RTN_MULTICAST)
"""The first and the last routing type of destinations that are delivered here."""
_SHARED_TYPES = ex.host32(ex.RTN_BROADCAST), ex.host32(ex.RTN_MULTICAST)
"""The same of those that a bridge may pass on to others as well."""
_BRIDGES = ("bridge", "vlan")
"""Kinds of links that bridged frames seem to come in by, with ``bridge-nf-call-iptables``."""


@dataclass(frozen=True, slots=True)
class KernelTable:
    """A table as the kernel holds it: its set, and what to count a match on.

    ``counter`` is the counter object of the one rule that wrote it. ``mapped`` says that the set
    maps each key to the counter of its own rule. With neither, its elements count for themselves,
    whenever they are looked up.
    """

    id: TableId
    set_name: str
    counter: str = ""
    mapped: bool = False
    origin: Origin | None = None

    @property
    def uncounted(self) -> str:
        """The set to look into for a permit that counts elsewhere."""
        return uncounted_name(self.set_name) if self.id.volatile else self.set_name

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets that hold its keys."""
        again = self.id.volatile and self.id.action is Action.PERMIT
        return (self.set_name, self.uncounted) if again else (self.set_name,)


@dataclass(frozen=True, slots=True)
class _Look:
    """A place where packets are looked at; ``again``, if they were before."""

    base: str
    point: Point
    again: bool = False


_LOOKS = (*(_Look(point.value, point) for point in Point), _Look(DELIVERED, Point.ARRIVING, True))


@dataclass(slots=True)
class Ruleset:
    """Chains with their rules, in the order in which they were begun."""

    chains: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)

    def add(self, name: str, *parts: bytes, comment: str = "") -> None:
        """Append a rule to a chain."""
        self.chains.setdefault(name, []).append((b"".join(parts), comment))


def render(
    tables: Sequence[KernelTable],
    exemptions: Iterable[str],
    *,
    drop_unparsable: bool,
    points: frozenset[Point] = frozenset(Point),
    groups: Mapping[str, Group | None] = MappingProxyType({}),
    translated: bool = False,
) -> Ruleset:
    """The chains and rules for `tables`, which are in the order of their rank.

    Packets are looked at on `points` only; elsewhere somebody else does. `groups` are the control
    groups of processes that tables name; what has none sends nothing. `translated` says that
    somebody may translate addresses here.
    """
    rules = Ruleset()
    blocking = any(table.id.action is Action.BLOCK for table in tables)
    patterns = [(name, pattern) for name in exemptions for pattern in exemption(name).patterns]
    for look in _LOOKS:
        rules.chains[look.base] = []
        for family in Family:
            wanted = [
                table
                for table in tables
                if table.id.family is family
                and look.point in table.id.points & points
                and (not table.id.process or groups.get(table.id.process))
            ]
            wanted = _worth_looking_at(in_order(wanted, look.point), look)
            checked = blocking and drop_unparsable and look.point in points - {Point.LEAVING}
            if not wanted and not (checked and not look.again):
                continue
            if not rules.chains[look.base]:
                _begin(rules, look, translated=translated)
            entry = chain(look.base, family)
            rules.add(
                look.base,
                ex.meta(ex.META_NFPROTO),
                ex.compare(ex.EQ, bytes((ex.NFPROTO[family],))),
                ex.verdict(GOTO, entry),
            )
            program = _Program(rules, look, family, wanted, patterns, groups)
            program.render(check=blocking, drop=drop_unparsable)
    return rules


def _worth_looking_at(tables: list[KernelTable], look: _Look) -> list[KernelTable]:
    """Of the tables in their order, those that can change what happens to a packet.

    What leaves is only looked at for blocks, and for permits above them. What is delivered was
    looked at by all tables but, perhaps, those to ``me``: nothing else can block it now.
    """
    if look.again:
        tables = [table for table in tables if not _is_block(table) or _is_to_me(table)]
    elif look.point is not Point.LEAVING:
        return tables
    blocks = [n for n, table in enumerate(tables) if _is_block(table)]
    return tables[: blocks[-1] + 1] if blocks else []


def _is_block(table: KernelTable) -> bool:
    return table.id.action is Action.BLOCK


def _is_to_me(table: KernelTable) -> bool:
    return table.id.destination == ME


def _begin(rules: Ruleset, look: _Look, *, translated: bool) -> None:
    """Let pass what is not looked at: loopback, and on leaving what was not forwarded."""
    key = ex.META_IIF if look.point is Point.ARRIVING else ex.META_OIF
    loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
    rules.add(look.base, ex.meta(key), loopback, ex.verdict(ACCEPT))
    if look.point is Point.LEAVING:
        not_forwarded = ex.compare(ex.EQ, ex.host32(0))
        rules.add(look.base, ex.meta(ex.META_IIF), not_forwarded, ex.verdict(ACCEPT))
    if look.again:
        _let_pass_what_others_sent_here(rules, look.base, translated=translated)


def _let_pass_what_others_sent_here(rules: Ruleset, base: str, *, translated: bool) -> None:
    """What was for others when it arrived, and is delivered because this host's rules say so.

    Translated addresses are not those that filters are about. What a transparent proxy takes is
    for others too: it bears a mark, which nobody outside can give it, and no address here. The
    routing type is asked without the mark, so this is true of no address of this host.
    """
    if translated:
        status = ex.tracked(ex.CT_STATUS) + ex.masked(ex.host32(ex.CT_STATUS_TRANSLATED))
        changed = status + ex.compare(ex.NEQ, ex.host32(0))
        rules.add(base, changed, ex.verdict(ACCEPT), comment="judged before translation")
    marked = chain(base, None, "marked")
    rules.add(
        base,
        ex.meta(ex.META_MARK) + ex.compare(ex.NEQ, ex.host32(0)),
        ex.verdict(JUMP, marked),
    )
    # Kernels before 6.12 do not find the addresses of a VRF there.
    rules.add(marked, ex.link_kind(ex.META_IIFKIND, "vrf"), ex.verdict(RETURN))
    rules.add(
        marked,
        ex.address_type(ex.FIB_DADDR) + ex.within(*_DELIVERED_TYPES, inverted=True),
        ex.verdict(ACCEPT),
        comment="taken by a transparent proxy",
    )


@dataclass(frozen=True, slots=True)
class _Program:
    """What is done with packets of one IP version at one point."""

    rules: Ruleset
    look: _Look
    family: Family
    tables: list[KernelTable]
    patterns: list[tuple[str, Pattern]]
    groups: Mapping[str, Group | None]

    def render(self, *, check: bool, drop: bool) -> None:
        entry = chain(self.look.base, self.family)
        if check:
            self._check_headers(entry, drop=drop and self.look.point is not Point.LEAVING)
        self._exempt(entry, fragment=False)
        self._split(entry, self.tables, "")

    def _check_headers(self, entry: str, *, drop: bool) -> None:
        # What passes at the first look is counted there.
        counted = ex.counted_by(UNPARSABLE) if drop or not self.look.again else b""
        end = counted + ex.verdict(DROP if drop else ACCEPT)
        # Before the headers: the first of those that follow may lie in an earlier fragment, and
        # then this one has no protocol, and only tables without one can match it.
        fragments = chain(self.look.base, self.family, "fragment")
        self.rules.add(
            entry, self._is_later_fragment(), ex.verdict(GOTO, fragments), comment="no ports"
        )
        if self.family is Family.IPV6:
            headers = chain(self.look.base, self.family, "headers")
            readable = ex.meta(ex.META_L4PROTO) + ex.compare(ex.GTE, b"\0")
            self.rules.add(entry, ex.verdict(JUMP, headers))
            self.rules.add(headers, readable, ex.verdict(RETURN))
            self.rules.add(headers, end, comment="too many or broken extension headers")
        self.rules.chains[fragments] = []
        self._exempt(fragments, fragment=True)
        self._split(fragments, [t for t in self.tables if not t.id.needs_ports], "fragment")
        ports = chain(self.look.base, self.family, "ports")
        self.rules.add(
            entry, ex.meta(ex.META_L4PROTO), ex.in_set(WITH_PORTS), ex.verdict(JUMP, ports)
        )
        readable = ex.payload(ex.TRANSPORT_HEADER, 0, 4) + ex.compare(ex.GTE, b"\0\0\0\0")
        self.rules.add(ports, readable, ex.verdict(RETURN))
        self.rules.add(ports, end, comment="ends before its ports")

    def _is_later_fragment(self) -> bytes:
        if self.family is Family.IPV4:
            offset = ex.payload(ex.NETWORK_HEADER, 6, 2) + ex.masked(b"\x1f\xff")
        else:
            offset = ex.fragment_offset() + ex.masked(b"\xff\xf8")
        return offset + ex.compare(ex.NEQ, b"\0\0")

    def _exempt(self, name: str, *, fragment: bool) -> None:
        for label, pattern in self.patterns:
            if self.look.point not in pattern.points or pattern.family not in (None, self.family):
                continue
            for parts in conditions(pattern, self.family, fragment=fragment):
                self.rules.add(name, parts, ex.verdict(ACCEPT), comment=f"exempt: {label}")

    def _split(self, entry: str, tables: list[KernelTable], part: str) -> None:
        """Send a packet to the tables it can match: with ``me``, or without."""
        if self.look.again:
            self._look_up(entry, tables)
            return
        parts = (part,) if part else ()
        me = chain(self.look.base, self.family, *parts, "me")
        other = chain(self.look.base, self.family, *parts, "other")
        if any(ME in (table.id.source, table.id.destination) for table in tables):
            self._spare_bridged(entry, tables, parts)
            self.rules.add(entry, self._is_me(), ex.verdict(GOTO, me))
            self._look_up(me, tables)
        # What leaves under another source than ours was judged when it arrived.
        elsewhere = [table for table in tables if ME not in (table.id.source, table.id.destination)]
        if elsewhere and self.look.point is not Point.LEAVING:
            self.rules.add(entry, ex.verdict(GOTO, other))
            self._look_up(other, elsewhere)

    def _spare_bridged(self, entry: str, tables: list[KernelTable], parts: tuple[str, ...]) -> None:
        """Leave blocks to ``me`` of what a bridge may only pass on to where it is delivered."""
        spared = [table for table in tables if not (_is_block(table) and _is_to_me(table))]
        if len(spared) == len(tables) or self.look.point is not Point.ARRIVING:
            return
        bridged = chain(self.look.base, self.family, *parts, "bridged")
        for kind in _BRIDGES:
            self.rules.add(
                entry,
                ex.link_kind(ex.META_IIFKIND, kind),
                ex.address_type(ex.FIB_DADDR) + ex.within(*_SHARED_TYPES),
                ex.verdict(GOTO, bridged),
            )
        self._look_up(bridged, spared)

    def _is_me(self) -> bytes:
        if self.look.point is Point.ARRIVING:
            return ex.address_type(ex.FIB_DADDR) + ex.within(*_DELIVERED_TYPES)
        return ex.address_type(ex.FIB_SADDR) + ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))

    def _look_up(self, name: str, tables: list[KernelTable]) -> None:
        self.rules.chains.setdefault(name, [])
        for table in tables:
            verdict = ex.verdict(DROP if _is_block(table) else ACCEPT)
            text = describe(table.origin) if table.origin else ""
            for condition in _interface(table.id, self.look.point):
                for key in self._keys(table.id):
                    parts = (condition, self._sender(table.id), key, self._match(table), verdict)
                    self.rules.add(name, *parts, comment=text)

    def _match(self, table: KernelTable) -> bytes:
        """Go on if the key is in the table, and count that unless it counts elsewhere."""
        leaving = self.look.point is Point.LEAVING and table.id.source != ME
        if not _is_block(table) and (self.look.again or leaving):
            return ex.in_set(table.uncounted)
        if table.mapped:
            return ex.counted_in_map(table.set_name)
        count = ex.counted_by(table.counter) if table.counter else b""
        return ex.in_set(table.set_name) + count

    def _sender(self, table: TableId) -> bytes:
        group = self.groups.get(table.process)
        if group is None:
            return b""
        return ex.sender_group(group.level) + ex.compare(ex.EQ, ex.host64(group.number))

    def _keys(self, table: TableId) -> Iterator[bytes]:
        """The expressions that lay the table's key into registers, for each way to see it."""
        if self.look.point is not Point.LEAVING or table.source == ME:
            yield key_of(table, from_packet)
            return
        state = ex.tracked(ex.CT_STATE)
        # The addresses of a related ICMP error are not those of the connection it is about.
        own = state + ex.masked(ex.host32(ex.CT_STATE_RELATED)) + ex.compare(ex.EQ, ex.host32(0))
        for direction in (0, 1):
            seen = own + ex.tracked(ex.CT_DIRECTION) + ex.compare(ex.EQ, bytes((direction,)))
            yield seen + key_of(table, as_arrived(direction))
        mask = ex.masked(ex.host32(ex.CT_STATE_INVALID_OR_UNTRACKED))
        yield state + mask + ex.compare(ex.NEQ, ex.host32(0)) + key_of(table, from_packet)


def _interface(table: TableId, point: Point) -> list[bytes]:
    """The conditions on the link, each of them enough; one empty one if any link will do."""
    if not table.interface_type:
        return [b""]
    # A permit that names no ``me`` was judged by the link it came in by.
    incoming = point is Point.ARRIVING or (point is Point.LEAVING and table.source != ME)
    kind = ex.meta(ex.META_IIFTYPE if incoming else ex.META_OIFTYPE)
    name = ex.meta(ex.META_IIFNAME if incoming else ex.META_OIFNAME)
    if table.interface_type == "dialup":
        by_name = kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.EQ, b"wwan")
        return [kind + ex.in_set(DIALUP_TYPES), by_name]
    return [kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.NEQ, b"wwan")]
