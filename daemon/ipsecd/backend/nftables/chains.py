"""Owns the chains of rules that judge the packets of one IP version at one place.

The invariants are those of the module ``render``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.audits import Onward
from ipsecd.backend.nftables.exempt import conditions
from ipsecd.backend.nftables.lists import ListSets
from ipsecd.backend.nftables.look_ups import LookUps, pass_connections
from ipsecd.backend.nftables.looks import (
    KernelTable,
    Look,
    Ruleset,
    is_audit,
    is_of_me,
    is_permit,
)
from ipsecd.backend.nftables.matches import Matches, opening
from ipsecd.backend.nftables.messages import ACCEPT, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import (
    UNPARSABLE,
    WITH_TRANSPORT,
    chain,
)
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Pattern
from ipsecd.model.packets import Point

DELIVERED_TYPES = ex.host32(ex.RTN_LOCAL), ex.host32(ex.RTN_MULTICAST)
"""The first and the last routing type (RTN_…) of destinations that are delivered here."""
_SHARED_TYPES = ex.host32(ex.RTN_BROADCAST), ex.host32(ex.RTN_MULTICAST)
"""The first and the last routing type of destinations that a bridge may pass on as well."""
_BRIDGES = ("bridge", "vlan")
"""Kinds of links by which bridged frames seem to arrive, with ``bridge-nf-call-iptables``."""


@dataclass(frozen=True, slots=True)
class FamilyChains:
    """What is to be done with packets of one IP version at one place, and the rules for it.

    ``arrived`` are the permits and audits among which one may have counted a packet that leaves,
    when it arrived, where addresses are translated. ``only_new`` says that no table makes a
    difference to packets of connections, and that those whose first four bytes behind the IP header
    can be read do not come here.
    """

    rules: Ruleset
    look: Look
    family: Family
    tables: list[KernelTable]
    patterns: list[tuple[str, Pattern]]
    surroundings: Surroundings
    lists: ListSets
    arrived: Sequence[KernelTable] = ()
    only_new: bool = False

    def render(self, *, check: bool, blocking: bool, drop: bool) -> None:
        """Write the rules; `check` the headers, and `drop` or pass packets that are unparsable.

        These are counted, and dropped, only where something is `blocking`.
        """
        entry = chain(self.look.base, self.family)
        drop = drop and blocking and self.look.point is not Point.LEAVING
        at_once = self._permits_at_once()
        self._look_up(entry, at_once)
        if check:
            entry = self._check_headers(entry, counts=blocking, drop=drop)
        else:
            self._pass_others_of_connections(entry)
        self._judge(entry, self.tables[len(at_once) :], "")

    def _permits_at_once(self) -> list[KernelTable]:
        """The first tables, if they can be looked up before all else.

        They are permits that count elsewhere, for packets that cannot be fragments: it makes no
        difference which rule lets such a packet pass. No packet that ends before its ports has a
        destination port, and if one of a connection matches, nothing else may block it.
        """
        if not self._is_whole:
            return []
        return list(
            takewhile(
                lambda table: (
                    is_permit(table)
                    and "destination_ports" in table.id.looks
                    and (self.only_new or not table.id.opening)
                ),
                self.tables,
            )
        )

    def _check_headers(self, entry: str, *, counts: bool, drop: bool) -> str:
        """Keep later fragments and unparsable packets from the chain whose name this returns."""
        if not self._is_whole:
            # This comes before the headers are checked: the header that follows may be in an
            # earlier fragment. Then this one has no protocol, and only tables without one match it.
            fragments = chain(self.look.base, self.family, "fragment")
            self.rules.add(
                entry, self._is_later_fragment(), ex.verdict(GOTO, fragments), comment="no ports"
            )
            self.rules.chains[fragments] = []
            self._pass_others_of_connections(fragments)
            tables = [table for table in self.tables if not table.id.needs_transport]
            self._judge(fragments, tables, "fragment")
        checked = chain(self.look.base, self.family, "checked")
        # This comes first because it is true of nearly all packets, and implies what follows.
        self.rules.add(entry, ex.has_transport(), ex.verdict(GOTO, checked))
        # A packet that passes at the first look was counted there.
        counts = counts and (drop or not self.look.again)
        counted = ex.counted_by(UNPARSABLE) if counts else b""
        end = counted + (self.rules.drop if drop else ex.verdict(ACCEPT))
        if self.family is Family.IPV6:
            headers = chain(self.look.base, self.family, "headers")
            readable = ex.meta(ex.META_L4PROTO) + ex.compare(ex.GTE, b"\0")
            self.rules.add(entry, ex.verdict(JUMP, headers))
            self.rules.add(headers, readable, ex.verdict(RETURN))
            self.rules.add(headers, end, comment="too many or broken extension headers")
        needs_transport = ex.meta(ex.META_L4PROTO) + ex.in_set(WITH_TRANSPORT[self.family])
        self.rules.add(entry, needs_transport, end, comment="ends before its ports or its type")
        self._pass_others_of_connections(entry)
        self.rules.add(entry, ex.verdict(GOTO, checked))
        self.rules.chains[checked] = []
        return checked

    @property
    def _is_whole(self) -> bool:
        """Whether no fragment comes here: IPv4 is put together before it is delivered."""
        delivered = self.look.again and self.look.point is Point.ARRIVING
        return delivered and self.family is Family.IPV4

    def _is_later_fragment(self) -> bytes:
        if self.family is Family.IPV4:
            offset = ex.payload(ex.NETWORK_HEADER, 6, 2) + ex.masked(b"\x1f\xff")
        else:
            offset = ex.fragment_offset() + ex.masked(b"\xff\xf8")
        return offset + ex.compare(ex.NEQ, b"\0\0")

    def _judge(self, entry: str, tables: list[KernelTable], part: str) -> None:
        """Let pass what is exempt, and send the rest to the tables, if there are any."""
        if tables:
            self._exempt(entry, fragment=bool(part))
            self._split(entry, tables, part)

    def _pass_others_of_connections(self, name: str) -> None:
        """Let pass those packets of connections that have come here all the same."""
        if self.only_new:
            pass_connections(self.rules, name)

    def _exempt(self, name: str, *, fragment: bool) -> None:
        for label, pattern in self.patterns:
            if self.look.point not in pattern.points or pattern.family not in (None, self.family):
                continue
            found = list(conditions(pattern, self.family, fragment=fragment))
            within = name
            if len(found) > 1 and pattern.protocol is not None:
                # They are many, and nearly all packets are of other protocols.
                within = f"{name}_protocol_{pattern.protocol}"
                if within not in self.rules.chains:
                    is_protocol = ex.compare(ex.EQ, bytes((pattern.protocol,)))
                    jump = ex.verdict(JUMP, within)
                    self.rules.add(name, ex.meta(ex.META_L4PROTO), is_protocol, jump)
            for parts in found:
                self.rules.add(within, parts, ex.verdict(ACCEPT), comment=f"exempt: {label}")

    def _split(self, entry: str, tables: list[KernelTable], part: str) -> None:
        """Send a packet to the tables that it can match: all of them if it is from or to ``me``."""
        parts = (part,) if part else ()
        with_me = chain(self.look.base, self.family, *parts, "me")
        if self.look.again:
            if self.look.in_vrf and self.look.point is Point.SENDING:
                for is_me in self._is_me_in_vrf():
                    self.rules.add(entry, is_me, ex.verdict(GOTO, with_me))
                entry = with_me
            if any(map(is_audit, tables)):
                again = [table for table in tables if _can_decide_again(table)]
                self._look_for_uncounted(entry, again, tables)
            else:
                self._look_up(entry, tables)
            return
        without_me = chain(self.look.base, self.family, *parts, "other")
        if any(map(is_of_me, tables)):
            conditions = self._is_me()
            if self.look.point is Point.ARRIVING and any(map(_is_block_of_me, tables)):
                self._split_shared(entry, tables, with_me)
                # The first is that the destination is this host's alone, or shared.
                conditions = conditions[1:]
            for is_me in conditions:
                self.rules.add(entry, is_me, ex.verdict(GOTO, with_me))
            if any(map(is_audit, tables)) and self.arrived:
                before = [each for each in self.arrived if not (part and each.id.needs_transport)]
                self._look_for_uncounted(with_me, tables, before)
            else:
                self._look_up(with_me, tables)
        # A leaving packet whose source is not this host was judged when it arrived.
        tables_without_me = [table for table in tables if not is_of_me(table)]
        if tables_without_me and self.look.point is not Point.LEAVING:
            self.rules.add(entry, ex.verdict(GOTO, without_me))
            self._look_up(without_me, tables_without_me)

    def _look_for_uncounted(
        self, name: str, tables: list[KernelTable], before: list[KernelTable]
    ) -> None:
        """Look a packet up in `tables`, with audits only if none has counted it `before`.

        In which table it was found then, if all audits had been blocks, is found out once more:
        what an audit counted, a block in its place would have dropped.
        """
        uncounted = f"{name}_uncounted"
        onward = Onward(uncounted, tables, idle=self._matches.counts_elsewhere)
        rest = onward.without_audits
        if_counted = ex.verdict(GOTO, rest) if rest else ex.verdict(ACCEPT)
        if_not = ex.verdict(GOTO, uncounted)
        if self.look.point is Point.LEAVING:
            looked_up = self._looked_up_on_arrival(name, before)
        else:
            looked_up = self._looked_up_at_first(name, before, if_counted)
        for chain_name, seen in looked_up.items():
            last = max((n for n, table in enumerate(seen) if is_audit(table)), default=-1)
            for table in seen[: last + 1]:
                asked = b"" if self.only_new else opening(table.id)
                for found in self._matches.of(table, asked, counts=False):
                    self.rules.add(chain_name, *found, if_counted if is_audit(table) else if_not)
            self.rules.add(chain_name, if_not)
        self._look_ups.write(onward)

    def _looked_up_at_first(
        self, name: str, before: list[KernelTable], if_counted: bytes
    ) -> dict[str, list[KernelTable]]:
        """The tables in which the first look looked up what is delivered, by the chain for it.

        What it knew to be this host's it looked up in all of them, so nothing is found out again.
        """
        if not self.surroundings.finds_in_vrf:
            self.rules.add(name, ex.link_kind(ex.META_IIFKIND, "vrf"), if_counted)
        bridged = f"{name}_bridged"
        self._go_if_bridged(name, bridged)
        for is_me in self._is_me():
            self.rules.add(name, is_me, if_counted)
        return {
            name: [table for table in before if not is_of_me(table)],
            bridged: [table for table in before if not _is_block_of_me(table)],
        }

    def _looked_up_on_arrival(
        self, name: str, before: list[KernelTable]
    ) -> dict[str, list[KernelTable]]:
        """The tables in which what leaves was looked up when it arrived, by the chain for it.

        What had another destination then was for this host: a published port is one of its own.
        """
        others = [table for table in before if not is_of_me(table)]
        if len(others) == len(before):
            return {name: before}
        to_me = f"{name}_to_me"
        for direction, status in enumerate((ex.CT_STATUS_DST_NAT, ex.CT_STATUS_SRC_NAT)):
            had_another = ex.tracked(ex.CT_STATUS) + ex.masked(ex.host32(status))
            had_another += ex.compare(ex.NEQ, ex.host32(0))
            is_direction = ex.tracked(ex.CT_DIRECTION) + ex.compare(ex.EQ, bytes((direction,)))
            self.rules.add(name, is_direction, had_another, ex.verdict(GOTO, to_me))
        shared = ex.address_type(ex.FIB_DADDR) + ex.within(*DELIVERED_TYPES)
        self.rules.add(name, shared, ex.verdict(GOTO, to_me))
        return {name: others, to_me: before}

    def _split_shared(self, entry: str, tables: list[KernelTable], with_me: str) -> None:
        """Do not block what a bridge may only pass on; it is judged again if it is delivered.

        That can only be what has a destination that others share, so nothing else is asked about
        the link: what is for an address of this host's alone goes to the chain `with_me` at once.
        """
        kind = ex.address_type(ex.FIB_DADDR)
        is_own = kind + ex.compare(ex.EQ, ex.host32(ex.RTN_LOCAL))
        self.rules.add(entry, is_own, ex.verdict(GOTO, with_me))
        shared, bridged = f"{with_me}_shared", f"{with_me}_bridged"
        self.rules.add(entry, kind + ex.within(*_SHARED_TYPES), ex.verdict(GOTO, shared))
        for name in _BRIDGES:
            self.rules.add(shared, ex.link_kind(ex.META_IIFKIND, name), ex.verdict(GOTO, bridged))
        self.rules.add(shared, ex.verdict(GOTO, with_me))
        self._look_up(bridged, [table for table in tables if not _is_block_of_me(table)])

    def _go_if_bridged(self, name: str, bridged: str) -> None:
        """Send what a bridge may only pass on to the chain `bridged`."""
        for kind in _BRIDGES:
            self.rules.add(
                name,
                ex.link_kind(ex.META_IIFKIND, kind),
                ex.address_type(ex.FIB_DADDR) + ex.within(*_SHARED_TYPES),
                ex.verdict(GOTO, bridged),
            )

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

    @property
    def _matches(self) -> Matches:
        return Matches(self.look, self.surroundings, self.lists)

    def _look_up(self, name: str, tables: list[KernelTable]) -> None:
        """Look a packet up in the `tables`; what an audit counts goes on in chains of its own."""
        self._look_ups.write(Onward(name, tables))

    @property
    def _look_ups(self) -> LookUps:
        return LookUps(self.rules, self._matches, self.family, self.only_new)


def _can_decide_again(table: KernelTable) -> bool:
    """Whether a packet can be in the table for the first time when it is looked at again.

    Permits let it pass in the same order.
    """
    return is_permit(table) or is_of_me(table)


def _is_block_of_me(table: KernelTable) -> bool:
    """Whether it blocks what is for this host, or is an audit, which stands for such a block."""
    return not is_permit(table) and is_of_me(table)
