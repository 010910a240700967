"""Owns the translation of tables into chains and rules: which set is looked into where.

Pure: the same tables give the same rules. Invariants:

1. A packet meets the tables in the order of their rank, and the first one that has its key
   decides; so the rules of a chain are in that order.
2. What needs ports is never looked up for a later fragment, nor for a packet whose ports cannot
   be read: such packets take a chain of their own, or are dropped as unparsable.
3. No rule loads anything that connection tracking knows unless a permit has to keep its rank
   against a block of what leaves under this host's address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.cgroups import Group
from ipsecd.backend.nftables.messages import ACCEPT, DROP, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import (
    DIALUP_TYPES,
    UNPARSABLE,
    WITH_PORTS,
    chain,
    describe,
)
from ipsecd.compiler.classifier import in_order
from ipsecd.compiler.tables import EXACT_PORT, ME, Ports, TableId
from ipsecd.model.exemptions import Cast, Pattern, exemption
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Family, Origin

LOOPBACK_INDEX = 1
"""The loopback interface of every network namespace (LOOPBACK_IFINDEX)."""


@dataclass(frozen=True, slots=True)
class KernelTable:
    """A table as the kernel holds it: its set, and what to count a match on.

    ``counter`` is the counter object of the one rule that wrote it. ``mapped`` says that the set
    maps each key to the counter of its own rule. With neither, its elements count for themselves.
    """

    id: TableId
    set_name: str
    counter: str = ""
    mapped: bool = False
    origin: Origin | None = None


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
) -> Ruleset:
    """The chains and rules for `tables`, which are in the order of their rank.

    Packets are looked at on `points` only; elsewhere somebody else does. `groups` are the control
    groups of processes that tables name; what has none sends nothing.
    """
    rules = Ruleset()
    blocking = any(table.id.action is Action.BLOCK for table in tables)
    patterns = [(name, pattern) for name in exemptions for pattern in exemption(name).patterns]
    for point in Point:
        base = chain(point)
        rules.chains[base] = []
        for family in Family:
            wanted = in_order(
                (
                    t
                    for t in tables
                    if t.id.family is family
                    and point in t.id.points
                    and point in points
                    and (not t.id.process or groups.get(t.id.process))
                ),
                point,
            )
            if point is Point.LEAVING:
                wanted = _worth_looking_at(wanted)
            checked = blocking and drop_unparsable and point in points - {Point.LEAVING}
            if not wanted and not checked:
                continue
            if not rules.chains[base]:
                _begin(rules, base, point)
            entry = chain(point, family)
            rules.add(
                base,
                ex.meta(ex.META_NFPROTO),
                ex.compare(ex.EQ, bytes((ex.NFPROTO[family],))),
                ex.verdict(GOTO, entry),
            )
            program = _Program(rules, point, family, wanted, patterns, groups)
            program.render(check=blocking, drop=drop_unparsable)
    return rules


def _worth_looking_at(tables: list[KernelTable]) -> list[KernelTable]:
    """Of what is looked at on leaving, all that ranks above the last block."""
    blocks = [n for n, table in enumerate(tables) if table.id.action is Action.BLOCK]
    return tables[: blocks[-1] + 1] if blocks else []


def _begin(rules: Ruleset, base: str, point: Point) -> None:
    """Let pass what is not looked at: loopback, and on leaving what was not forwarded."""
    key = ex.META_IIF if point is Point.ARRIVING else ex.META_OIF
    loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
    rules.add(base, ex.meta(key), loopback, ex.verdict(ACCEPT))
    if point is Point.LEAVING:
        not_forwarded = ex.compare(ex.EQ, ex.host32(0))
        rules.add(base, ex.meta(ex.META_IIF), not_forwarded, ex.verdict(ACCEPT))


@dataclass(frozen=True, slots=True)
class _Program:
    """What is done with packets of one IP version at one point."""

    rules: Ruleset
    point: Point
    family: Family
    tables: list[KernelTable]
    patterns: list[tuple[str, Pattern]]
    groups: Mapping[str, Group | None]

    def render(self, *, check: bool, drop: bool) -> None:
        entry = chain(self.point, self.family)
        if check:
            self._check_headers(entry, drop=drop and self.point is not Point.LEAVING)
        self._exempt(entry, fragment=False)
        self._split(entry, self.tables, "")

    def _check_headers(self, entry: str, *, drop: bool) -> None:
        code = DROP if drop else ACCEPT
        end = ex.counted_by(UNPARSABLE) + ex.verdict(code)
        if self.family is Family.IPV6:
            headers = chain(self.point, self.family, "headers")
            readable = ex.meta(ex.META_L4PROTO) + ex.compare(ex.GTE, b"\0")
            self.rules.add(entry, ex.verdict(JUMP, headers))
            self.rules.add(headers, readable, ex.verdict(RETURN))
            self.rules.add(headers, end, comment="too many or broken extension headers")
        fragments = chain(self.point, self.family, "fragment")
        self.rules.add(
            entry, self._is_later_fragment(), ex.verdict(GOTO, fragments), comment="no ports"
        )
        self.rules.chains[fragments] = []
        self._exempt(fragments, fragment=True)
        self._split(fragments, [t for t in self.tables if not t.id.needs_ports], "fragment")
        ports = chain(self.point, self.family, "ports")
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
            if self.point not in pattern.points or pattern.family not in (None, self.family):
                continue
            for parts in _pattern(pattern, self.family, fragment=fragment):
                self.rules.add(name, parts, ex.verdict(ACCEPT), comment=f"exempt: {label}")

    def _split(self, entry: str, tables: list[KernelTable], part: str) -> None:
        """Send a packet to the tables it can match: with ``me``, or without."""
        parts = (part,) if part else ()
        me = chain(self.point, self.family, *parts, "me")
        other = chain(self.point, self.family, *parts, "other")
        if any(ME in (table.id.source, table.id.destination) for table in tables):
            self.rules.add(entry, self._is_me(), ex.verdict(GOTO, me))
            self._look_up(me, tables)
        # What leaves under another source than ours was judged when it arrived.
        elsewhere = [table for table in tables if ME not in (table.id.source, table.id.destination)]
        if elsewhere and self.point is not Point.LEAVING:
            self.rules.add(entry, ex.verdict(GOTO, other))
            self._look_up(other, elsewhere)

    def _is_me(self) -> bytes:
        if self.point is Point.ARRIVING:
            first, last = ex.host32(ex.RTN_LOCAL), ex.host32(ex.RTN_MULTICAST)
            return ex.address_type(ex.FIB_DADDR) + ex.within(first, last)
        return ex.address_type(ex.FIB_SADDR) + ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))

    def _look_up(self, name: str, tables: list[KernelTable]) -> None:
        self.rules.chains[name] = []
        for table in tables:
            code = DROP if table.id.action is Action.BLOCK else ACCEPT
            text = describe(table.origin) if table.origin else ""
            for condition in _interface(table.id, self.point):
                for key in self._keys(table.id):
                    found = ex.counted_in_map if table.mapped else ex.in_set
                    parts = [condition, self._sender(table.id), key, found(table.set_name)]
                    if table.counter:
                        parts.append(ex.counted_by(table.counter))
                    self.rules.add(name, *parts, ex.verdict(code), comment=text)

    def _sender(self, table: TableId) -> bytes:
        group = self.groups.get(table.process)
        if group is None:
            return b""
        return ex.sender_group(group.level) + ex.compare(ex.EQ, ex.host64(group.number))

    def _keys(self, table: TableId) -> Iterator[bytes]:
        """The expressions that lay the table's key into registers, for each way to see it."""
        if self.point is not Point.LEAVING or table.source == ME:
            yield _key(table, _from_packet)
            return
        state = ex.tracked(ex.CT_STATE)
        # The addresses of a related ICMP error are not those of the connection it is about.
        own = state + ex.masked(ex.host32(ex.CT_STATE_RELATED)) + ex.compare(ex.EQ, ex.host32(0))
        for direction in (0, 1):
            seen = own + ex.tracked(ex.CT_DIRECTION) + ex.compare(ex.EQ, bytes((direction,)))
            yield seen + _key(table, _as_arrived(direction))
        mask = ex.masked(ex.host32(ex.CT_STATE_INVALID_OR_UNTRACKED))
        yield state + mask + ex.compare(ex.NEQ, ex.host32(0)) + _key(table, _from_packet)


Loader = Callable[[str, Family, int], bytes]


def _key(table: TableId, load: Loader) -> bytes:
    """Load the fields of the table's key into registers, after checking what is not in it."""
    parts: list[bytes] = []
    for name, ports in (("sport", table.source_ports), ("dport", table.destination_ports)):
        if ports.kind == "range":
            parts.append(load(name, table.family, 0) + _port_range(ports))
    register = 0
    if table.protocol:
        parts.append(ex.meta(ex.META_L4PROTO, register))
        register += 1
    for name, ports in (("sport", table.source_ports), ("dport", table.destination_ports)):
        if ports == EXACT_PORT:
            parts.append(load(name, table.family, register))
            register += 1
    for name, length in (("saddr", table.source), ("daddr", table.destination)):
        if length > 0:
            parts.append(load(name, table.family, register))
            if length < table.family.bits:
                parts.append(ex.masked(_mask(table.family, length), register))
            register += table.family.bits // 32
    if not register:
        parts.append(ex.meta(ex.META_NFPROTO))
    return b"".join(parts)


def _from_packet(name: str, family: Family, register: int) -> bytes:
    """Load a field from the packet as it is now."""
    if name in ("sport", "dport"):
        return ex.payload(ex.TRANSPORT_HEADER, 0 if name == "sport" else 2, 2, register)
    size = family.bits // 8
    source = 12 if family is Family.IPV4 else 8
    offset = source if name == "saddr" else source + size
    return ex.payload(ex.NETWORK_HEADER, offset, size, register)


def _as_arrived(direction: int) -> Loader:
    """Load a field from what connection tracking saw when the packet arrived."""
    keys = {
        (Family.IPV4, "saddr"): ex.CT_SRC_IP,
        (Family.IPV4, "daddr"): ex.CT_DST_IP,
        (Family.IPV6, "saddr"): ex.CT_SRC_IP6,
        (Family.IPV6, "daddr"): ex.CT_DST_IP6,
    }

    def load(name: str, family: Family, register: int) -> bytes:
        ports = {"sport": ex.CT_PROTO_SRC, "dport": ex.CT_PROTO_DST}
        key = ports.get(name) or keys[family, name]
        return ex.tracked(key, register, direction)

    return load


def _port_range(ports: Ports) -> bytes:
    return ex.within(ports.first.to_bytes(2, "big"), ports.last.to_bytes(2, "big"))


def _mask(family: Family, length: int) -> bytes:
    bits = family.bits
    return ((1 << bits) - (1 << (bits - length))).to_bytes(bits // 8, "big")


def _interface(table: TableId, point: Point) -> list[bytes]:
    """The conditions on the link, each of them enough; one empty one if any link will do."""
    if not table.interface_type:
        return [b""]
    # A permit that names no ``me`` was judged by the link it came in by.
    incoming = point is Point.ARRIVING or (point is Point.LEAVING and table.source != ME)
    kind = ex.meta(ex.META_IIFTYPE if incoming else ex.META_OIFTYPE)
    name = ex.meta(ex.META_IIFNAME if incoming else ex.META_OIFNAME)
    if table.interface_type == "dialup":
        by_name = kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.EQ, b"ww")
        return [kind + ex.in_set(DIALUP_TYPES), by_name]
    return [kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.NEQ, b"ww")]


def _pattern(pattern: Pattern, family: Family, *, fragment: bool) -> Iterator[bytes]:
    """The conditions of an exempt pattern, one for each ICMP type; none if it cannot match."""
    ports = (pattern.source_port, pattern.destination_port)
    if fragment and (ports != (None, None) or pattern.icmp_types):
        return
    if pattern.cast is Cast.BROADCAST and family is Family.IPV6:
        return
    parts = []
    if pattern.protocol is not None:
        parts.append(ex.meta(ex.META_L4PROTO) + ex.compare(ex.EQ, bytes((pattern.protocol,))))
    for offset, port in ((0, ports[0]), (2, ports[1])):
        if port is not None:
            loaded = ex.payload(ex.TRANSPORT_HEADER, offset, 2)
            parts.append(loaded + ex.compare(ex.EQ, port.to_bytes(2, "big")))
    if pattern.hop_limit is not None:
        loaded = ex.payload(ex.NETWORK_HEADER, 8 if family is Family.IPV4 else 7, 1)
        parts.append(loaded + ex.compare(ex.EQ, bytes((pattern.hop_limit,))))
    if pattern.cast is Cast.MULTICAST:
        parts.append(_multicast(family))
    elif pattern.cast is Cast.BROADCAST:
        kind = ex.address_type(ex.FIB_DADDR)
        parts.append(kind + ex.compare(ex.EQ, ex.host32(ex.RTN_BROADCAST)))
    fixed = b"".join(parts)
    if not pattern.icmp_types:
        yield fixed
    for number in sorted(pattern.icmp_types):
        loaded = ex.payload(ex.TRANSPORT_HEADER, 0, 1)
        yield fixed + loaded + ex.compare(ex.EQ, bytes((number,)))


def _multicast(family: Family) -> bytes:
    if family is Family.IPV4:
        high = ex.payload(ex.NETWORK_HEADER, 16, 1) + ex.masked(b"\xf0")
        return high + ex.compare(ex.EQ, b"\xe0")
    return ex.payload(ex.NETWORK_HEADER, 24, 1) + ex.compare(ex.EQ, b"\xff")
