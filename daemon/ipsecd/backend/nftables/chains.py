"""Owns the chains of rules that judge the packets of one IP version at one place.

The invariants are those of the module ``render``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.exempt import conditions
from ipsecd.backend.nftables.keys import as_arrived, from_packet, key_of
from ipsecd.backend.nftables.lists import ListSets
from ipsecd.backend.nftables.looks import (
    KernelTable,
    Look,
    Ruleset,
    is_block,
    is_of_links,
    is_of_me,
)
from ipsecd.backend.nftables.messages import ACCEPT, DROP, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import (
    DIALUP_TYPES,
    UNPARSABLE,
    WITH_TRANSPORT,
    chain,
    describe,
)
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.compiler.tables import TableId
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Pattern
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point

DELIVERED_TYPES = ex.host32(ex.RTN_LOCAL), ex.host32(ex.RTN_MULTICAST)
"""The first and the last routing type (RTN_…) of destinations that are delivered here."""
_SHARED_TYPES = ex.host32(ex.RTN_BROADCAST), ex.host32(ex.RTN_MULTICAST)
"""The first and the last routing type of destinations that a bridge may pass on as well."""
_BRIDGES = ("bridge", "vlan")
"""Kinds of links by which bridged frames seem to arrive, with ``bridge-nf-call-iptables``."""


@dataclass(frozen=True, slots=True)
class FamilyChains:
    """What is to be done with packets of one IP version at one place, and the rules for it."""

    rules: Ruleset
    look: Look
    family: Family
    tables: list[KernelTable]
    patterns: list[tuple[str, Pattern]]
    surroundings: Surroundings
    lists: ListSets

    def render(self, *, check: bool, drop: bool) -> None:
        """Write the rules; `check` the headers, and `drop` or pass packets that are unparsable."""
        entry = chain(self.look.base, self.family)
        if check:
            self._check_headers(entry, drop=drop and self.look.point is not Point.LEAVING)
        self._exempt(entry, fragment=False)
        self._split(entry, self.tables, "")

    def _check_headers(self, entry: str, *, drop: bool) -> None:
        # A packet that passes at the first look was counted there.
        counted = ex.counted_by(UNPARSABLE) if drop or not self.look.again else b""
        end = counted + ex.verdict(DROP if drop else ACCEPT)
        # This comes before the headers are checked: the header that follows may be in an earlier
        # fragment. Then this one has no protocol, and only tables without a protocol match it.
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
        self._split(fragments, [t for t in self.tables if not t.id.needs_transport], "fragment")
        ports = chain(self.look.base, self.family, "ports")
        has_transport = ex.in_set(WITH_TRANSPORT[self.family])
        self.rules.add(entry, ex.meta(ex.META_L4PROTO), has_transport, ex.verdict(JUMP, ports))
        readable = ex.payload(ex.TRANSPORT_HEADER, 0, 4) + ex.compare(ex.GTE, b"\0\0\0\0")
        self.rules.add(ports, readable, ex.verdict(RETURN))
        self.rules.add(ports, end, comment="ends before its ports or its type")

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
        """Send a packet to the tables that it can match: all of them if it is from or to ``me``."""
        parts = (part,) if part else ()
        with_me = chain(self.look.base, self.family, *parts, "me")
        if self.look.again:
            if self.look.in_vrf and self.look.point is Point.SENDING:
                for is_me in self._is_me_in_vrf():
                    self.rules.add(entry, is_me, ex.verdict(GOTO, with_me))
                entry = with_me
            self._look_up(entry, tables)
            return
        without_me = chain(self.look.base, self.family, *parts, "other")
        if any(map(is_of_me, tables)):
            self._spare_bridged(entry, tables, parts)
            for is_me in self._is_me():
                self.rules.add(entry, is_me, ex.verdict(GOTO, with_me))
            self._look_up(with_me, tables)
        # A leaving packet whose source is not this host was judged when it arrived.
        tables_without_me = [table for table in tables if not is_of_me(table)]
        if tables_without_me and self.look.point is not Point.LEAVING:
            self.rules.add(entry, ex.verdict(GOTO, without_me))
            self._look_up(without_me, tables_without_me)

    def _spare_bridged(self, entry: str, tables: list[KernelTable], parts: tuple[str, ...]) -> None:
        """Do not block what a bridge may only pass on; it is judged again if it is delivered."""
        spared = [table for table in tables if not (is_block(table) and is_of_me(table))]
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

    def _is_me(self) -> list[bytes]:
        """The conditions under which a packet is to (or from) this host; any of them is enough.

        Kernels before 6.12 find an address in the VRF of a link only when they are asked about
        that link, and then they find no other addresses.
        """
        if self.look.point is Point.ARRIVING:
            address, link, kinds = ex.FIB_DADDR, ex.FIB_IIF, ex.within(*DELIVERED_TYPES)
        else:
            address, link = ex.FIB_SADDR, ex.FIB_OIF
            kinds = ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))
        conditions = [ex.address_type(flags) + kinds for flags in (address, address | link)]
        if self.look.point is Point.SENDING and self.surroundings.sees_sockets:
            conditions.append(self._is_sent_by_this_host())
        return conditions

    def _is_me_in_vrf(self) -> list[bytes]:
        """The conditions under which what is sent with a VRF as its link is from this host.

        Where the kernel does not find its own addresses there, or cannot be asked about sockets,
        nobody can tell what a transparent proxy sends for others: all is from this host.
        """
        surroundings = self.surroundings
        if surroundings.sees_sockets and surroundings.finds_in_vrf:
            return self._is_me()
        return [self._has_address()]

    def _is_sent_by_this_host(self) -> bytes:
        """What a socket sends from no address of this host, or from one that has just gone.

        A transparent proxy sends for others.
        """
        return self._has_address() + ex.is_sent_for_others() + ex.compare(ex.EQ, b"\0")

    def _has_address(self) -> bytes:
        """The unspecified address is that of a host that has none yet."""
        offset, size = (12, 4) if self.family is Family.IPV4 else (8, 16)
        return ex.payload(ex.NETWORK_HEADER, offset, size) + ex.compare(ex.NEQ, bytes(size))

    def _look_up(self, name: str, tables: list[KernelTable]) -> None:
        self.rules.chains.setdefault(name, [])
        for table in tables:
            verdict = ex.verdict(DROP if is_block(table) else ACCEPT)
            text = describe(table.origin) if table.origin else ""
            for condition in self._links(table):
                for key in self._keys(table.id):
                    found = (self._sender(table.id), key, self._match(table))
                    parts = (condition, _connection(table.id), *found, verdict)
                    self.rules.add(name, *parts, comment=text)

    def _links(self, table: KernelTable) -> list[bytes]:
        """The conditions on the link, any of which is enough.

        Where the link is a VRF, the link in it is unknown. A table for some links must not block
        there, and must not be outranked.
        """
        if self.look.in_vrf and is_of_links(table):
            return [] if is_block(table) else [b""]
        return _interface(table.id, self.look.point)

    def _match(self, table: KernelTable) -> bytes:
        """Go on if the key is in the table, and count the match unless it counts elsewhere."""
        leaving = self.look.point is Point.LEAVING and table.id.source != ME
        elsewhere = leaving or self.look.again or self.look.repeated
        if not is_block(table) and elsewhere:
            return ex.in_set(table.uncounted)
        if table.mapped:
            return ex.counted_in_map(table.set_name)
        count = ex.counted_by(table.counter) if table.counter else b""
        return ex.in_set(table.set_name) + count

    def _sender(self, table: TableId) -> bytes:
        group = self.surroundings.groups.get(table.process)
        if group is None:
            return b""
        return ex.sender_group(group.level) + ex.compare(ex.EQ, ex.host64(group.number))

    def _keys(self, table: TableId) -> Iterator[bytes]:
        """The expressions that lay the table's key into registers, for each way to see it."""
        if self.look.point is not Point.LEAVING or table.source == ME:
            yield key_of(table, from_packet, self.lists)
            return
        state = ex.tracked(ex.CT_STATE)
        # The addresses of a related ICMP error are not those of the connection it is about.
        own = state + ex.masked(ex.host32(ex.CT_STATE_RELATED)) + ex.compare(ex.EQ, ex.host32(0))
        for direction in (0, 1):
            is_direction = ex.compare(ex.EQ, bytes((direction,)))
            condition = own + ex.tracked(ex.CT_DIRECTION) + is_direction
            yield condition + key_of(table, as_arrived(direction), self.lists)
        mask = ex.masked(ex.host32(ex.CT_STATE_INVALID_OR_UNTRACKED))
        unknown = state + mask + ex.compare(ex.NEQ, ex.host32(0))
        yield unknown + key_of(table, from_packet, self.lists)


def _connection(table: TableId) -> bytes:
    """Go on only if the packet belongs to no connection, if that is asked for."""
    if not table.opening:
        return b""
    known = ex.masked(ex.host32(ex.CT_STATE_OF_CONNECTION))
    return ex.tracked(ex.CT_STATE) + known + ex.compare(ex.EQ, ex.host32(0))


def _name_bytes(pattern: str) -> bytes:
    """What the name of a link is compared with: up to its end, or only as far as ``*``."""
    if pattern.endswith("*"):
        return pattern[:-1].encode()
    return pattern.encode().ljust(ex.LINK_NAME_BYTES, b"\0")


def _interface(table: TableId, point: Point) -> list[bytes]:
    """The conditions on the link, any of which is enough; a single empty one allows every link."""
    # A permit that names no ``me`` goes by the link by which the packet arrived.
    incoming = point is Point.ARRIVING or (point is Point.LEAVING and table.source != ME)
    kind = ex.meta(ex.META_IIFTYPE if incoming else ex.META_OIFTYPE)
    name = ex.meta(ex.META_IIFNAME if incoming else ex.META_OIFNAME)
    if table.interface_name:
        return [name + ex.compare(ex.EQ, _name_bytes(table.interface_name))]
    if not table.interface_type:
        return [b""]
    if table.interface_type == "dialup":
        by_name = kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.EQ, b"ww")
        return [kind + ex.in_set(DIALUP_TYPES), by_name]
    return [kind + ex.in_set(DIALUP_TYPES, inverted=True) + name + ex.compare(ex.NEQ, b"ww")]
