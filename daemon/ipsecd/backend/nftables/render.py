"""Owns the translation of tables into chains and rules: which sets are looked into, and where.

Pure: the same tables give the same rules. Invariants:

1. A packet meets the tables in the order of their rank, and the first table that has its key
   decides. So the rules of a chain are in that order.
2. A table that needs ports never matches a later fragment, nor a packet whose ports cannot be
   read: a fragment takes a chain of its own, the other packet is dropped as unparsable. Only
   permits on delivery come before that, and these load the destination port, which is not there.
3. No rule loads what connection tracking knows, except where a permit has to keep its rank against
   a block of packets that leave from this host's addresses, where somebody translates addresses, or
   where a table is for packets that open a connection. Only then does the whole ranking of a point
   stand behind connection tracking (see ``placement``).
4. A packet counts once. A permit does not count when it is looked at again because the packet is
   delivered here or leaves. A block counts then, because it has not dropped the packet before.
   An audit counts a packet that goes on, so it counts a packet that is looked at again only if
   none has counted it before, and no packet that an audit has counted meets another (see
   ``audits``).

Arriving packets are looked at twice (docs/decisions/0009-second-look-at-input.md). The first look
asks whether the destination is this host's before the stack decides that. Packets that are then
delivered here are looked at again, with the answer of the stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.at_once import found_on_arrival, in_no_table, of_family
from ipsecd.backend.nftables.chains import DELIVERED_TYPES, FamilyChains
from ipsecd.backend.nftables.lists import ListForm, ListSet, ListSets
from ipsecd.backend.nftables.looks import (
    KernelTable,
    Look,
    Ruleset,
    is_audit,
    is_block,
    is_of_links,
    is_of_me,
    is_permit,
    looks,
    tracked_points,
    worth_looking_at,
)
from ipsecd.backend.nftables.matches import is_of_connection
from ipsecd.backend.nftables.messages import ACCEPT, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import HOOKS, chain, describe
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.backend.nftables.told import Told
from ipsecd.compiler.classifier import in_order
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import exemption
from ipsecd.model.packets import Point

NO_LISTS: Mapping[ListForm, ListSet] = {}
LOOPBACK_INDEX = 1
"""The loopback interface of every network namespace (LOOPBACK_IFINDEX)."""


def render(
    tables: Sequence[KernelTable],
    exemptions: Iterable[str],
    twice: frozenset[Point] = frozenset(),
    *,
    drop_unparsable: bool,
    points: frozenset[Point] = frozenset(Point),
    surroundings: Surroundings,
    lists: ListSets = NO_LISTS,
    told: Told | None = None,
) -> Ruleset:
    """The chains and rules for `tables`, which are in the order of their rank.

    Packets are looked at only on `points`; another backend looks at the others. At the points
    `twice` they are looked at before connection tracking and behind it. `lists` are the sets that
    tables look into besides their own. `told` says how somebody is told of what is dropped.
    """
    rules = told.ruleset() if told else Ruleset()
    rules.counts_entries = any(form.counted for form in lists)
    rendering = _Rendering(tables, exemptions, drop_unparsable, points, surroundings, lists, rules)
    rendering.rules.chains |= {name: [] for name in HOOKS}
    for look in looks(tracked_points(tables) & points, twice):
        rendering.rules.chains[look.base] = []
        if chains_of_families := rendering.family_chains(look):
            rendering.render(look, chains_of_families)
    return rendering.rules


@dataclass(frozen=True, slots=True)
class _Rendering:
    """The input of ``render``, and the rules that are written so far."""

    tables: Sequence[KernelTable]
    exemptions: Iterable[str]
    drop_unparsable: bool
    points: frozenset[Point]
    surroundings: Surroundings
    lists: ListSets
    rules: Ruleset

    def family_chains(self, look: Look) -> list[FamilyChains]:
        """The chains for each IP version whose packets have to be looked at."""
        blocking = any(map(is_block, self.tables))
        patterns = [
            (name, pattern) for name in self.exemptions for pattern in exemption(name).patterns
        ]
        checks_all = blocking and self.drop_unparsable and not look.again
        checked = checks_all and look.point in self.points - {Point.LEAVING}
        chains_of_families = []
        for family in Family:
            tables = worth_looking_at(self._tables_at(look.point, family), look)
            if tables or checked:
                chains_of_families.append(
                    FamilyChains(
                        self.rules,
                        look,
                        family,
                        tables,
                        patterns,
                        self.surroundings,
                        self.lists,
                        self._counted_on_arrival(look, family),
                    )
                )
        return chains_of_families

    def _tables_at(self, point: Point, family: Family) -> list[KernelTable]:
        """The tables of one IP version that are looked up at a point, in their order."""
        tables = [
            table
            for table in self.tables
            if table.id.family is family
            and point in table.id.points & self.points
            and (not table.id.process or self.surroundings.groups.get(table.id.process))
        ]
        return in_order(tables, point)

    def _counted_on_arrival(self, look: Look, family: Family) -> list[KernelTable]:
        """The permits and audits of which one may have counted what leaves as this host's.

        It arrived as another's, so somebody translates addresses.
        """
        if look.point is not Point.LEAVING or not self.surroundings.translated:
            return []
        tables = self._tables_at(Point.ARRIVING, family)
        tables = [table for table in tables if not is_block(table)]
        return tables if any(map(is_audit, tables)) else []

    def render(self, look: Look, chains_of_families: list[FamilyChains]) -> None:
        """Write the rules for packets at one place.

        Where nothing is dropped but what cannot be read, what can be read passes at once: packets
        of connections where no table is for them, and all packets where there are no tables.
        """
        tables = [table for chains in chains_of_families for table in chains.tables]
        # A permit that counts elsewhere makes no difference where nothing can block the packet.
        deciding = (
            [table for table in tables if is_of_me(table) and not is_permit(table)]
            if look.again
            else tables
        )
        only_new = bool(tables) and all(table.id.opening for table in deciding)
        if only_new:
            chains_of_families = [replace(chains, only_new=True) for chains in chains_of_families]
            readable = is_of_connection() + ex.has_transport()
            self.rules.add(look.base, readable, ex.verdict(ACCEPT), comment="of a connection")
        elif not tables:
            self.rules.add(look.base, ex.has_transport(), ex.verdict(ACCEPT), comment="readable")
        quick = tables and look.point is not Point.LEAVING
        passing = self._let_pass(look, chains_of_families) if quick else []
        _begin(self.rules, look, translated=self.surroundings.translated)
        if look.point is Point.ARRIVING and not look.again:
            self._drop_at_once(look, passing)
        _branch_to_vrf(self, look, only_new=only_new)
        self.branch(look, chains_of_families)

    def _let_pass(self, look: Look, chains_of_families: list[FamilyChains]) -> list[FamilyChains]:
        """Let pass what no table has, of those IP versions that this returns."""
        passing = []
        for chains in chains_of_families:
            if in_none := in_no_table(chains.tables, chains.family, self.lists):
                self.rules.add(look.base, in_none, ex.verdict(ACCEPT), comment="in no table")
                passing.append(chains)
        return passing

    def _drop_at_once(self, look: Look, passing: list[FamilyChains]) -> None:
        """Drop what the only table of an IP version has, where others were let pass before.

        That the link is a VRF makes no difference: such a table is for all links, and what came by
        a link in the VRF was dropped before.
        """
        for chains in passing:
            if len(chains.tables) != 1:
                continue
            (table,) = chains.tables
            patterns = [each for _, each in chains.patterns if look.point in each.points]
            if found := found_on_arrival(table, patterns, self.lists):
                text = describe(table.origin) if table.origin else ""
                self.rules.add(look.base, found, self.rules.drop, comment=text)

    def branch(self, look: Look, chains_of_families: list[FamilyChains]) -> None:
        """Send packets of each IP version to their chains, and write these."""
        for family_chains in chains_of_families:
            self.rules.add(
                look.base,
                of_family(family_chains.family),
                ex.verdict(GOTO, chain(look.base, family_chains.family)),
            )
            # A permit alone drops nothing, but counts: it must not read ports out of a fragment.
            needs = any(table.id.needs_transport for table in family_chains.tables)
            family_chains.render(
                check=needs or not all(map(is_permit, self.tables)),
                blocking=any(map(is_block, self.tables)),
                drop=self.drop_unparsable,
            )


def _branch_to_vrf(rendering: _Rendering, look: Look, *, only_new: bool) -> None:
    """Give packets whose link is a VRF rules of their own, or none.

    An arriving packet is judged by the link in the VRF by which it came; a packet that was made in
    the VRF for the VRF came by none.
    """
    if look.point is Point.LEAVING:
        return
    chains_of_families = rendering.family_chains(look.vrf) if look.vrf else []
    if look.again and not any(map(is_of_links, rendering.tables)):
        return
    in_vrf = ex.link_kind(look.link_kind, "vrf")
    if look.vrf and chains_of_families:
        rendering.rules.add(look.base, in_vrf, ex.verdict(GOTO, look.vrf.base))
        rendering.branch(
            look.vrf, [replace(chains, only_new=only_new) for chains in chains_of_families]
        )
    elif not look.again:
        rendering.rules.add(look.base, in_vrf, ex.verdict(ACCEPT), comment="judged by its link")


def _begin(rules: Ruleset, look: Look, *, translated: bool) -> None:
    """Let pass what is not looked at: loopback, and leaving packets that were not forwarded."""
    key = ex.META_IIF if look.point is Point.ARRIVING else ex.META_OIF
    loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
    rules.add(look.base, ex.meta(key), loopback, ex.verdict(ACCEPT))
    if look.point is Point.LEAVING:
        not_forwarded = ex.compare(ex.EQ, ex.host32(0))
        rules.add(look.base, ex.meta(ex.META_IIF), not_forwarded, ex.verdict(ACCEPT))
        # Packets that this host sends in a VRF seem to arrive by it, but they have a socket.
        has_socket = ex.meta(ex.META_SKUID) + ex.compare(ex.GTE, ex.host32(0))
        in_vrf = ex.link_kind(ex.META_IIFKIND, "vrf")
        rules.add(look.base, in_vrf, has_socket, ex.verdict(ACCEPT), comment="sent in a VRF")
    if look.again:
        _let_pass_what_others_sent_here(rules, look.base, translated=translated)


def _let_pass_what_others_sent_here(rules: Ruleset, base: str, *, translated: bool) -> None:
    """Let pass what was for others when it arrived, and is delivered because of rules of this host.

    Filters do not apply to translated addresses. Packets that a transparent proxy takes are for
    others too: they bear a mark, which nobody outside can set, and no address of this host. The
    routing type is asked without the mark, so no address of this host passes by it.
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
    # Kernels before 6.12 do not find the addresses of a VRF in that way.
    rules.add(marked, ex.link_kind(ex.META_IIFKIND, "vrf"), ex.verdict(RETURN))
    rules.add(
        marked,
        ex.address_type(ex.FIB_DADDR) + ex.within(*DELIVERED_TYPES, inverted=True),
        ex.verdict(ACCEPT),
        comment="taken by a transparent proxy",
    )
