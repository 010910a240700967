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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.cgroups import Group
from ipsecd.backend.nftables.chains import DELIVERED_TYPES, Program
from ipsecd.backend.nftables.looks import (
    LOOKS,
    KernelTable,
    Look,
    Ruleset,
    is_block,
    worth_looking_at,
)
from ipsecd.backend.nftables.messages import ACCEPT, GOTO, JUMP, RETURN
from ipsecd.backend.nftables.naming import chain
from ipsecd.compiler.classifier import in_order
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import exemption
from ipsecd.model.packets import Point

LOOPBACK_INDEX = 1
"""The loopback interface of every network namespace (LOOPBACK_IFINDEX)."""


def render(
    tables: Sequence[KernelTable],
    exemptions: Iterable[str],
    *,
    drop_unparsable: bool,
    points: frozenset[Point] = frozenset(Point),
    groups: Mapping[str, Group | None] = MappingProxyType({}),
    translated: bool = False,
    sees_sockets: bool = True,
) -> Ruleset:
    """The chains and rules for `tables`, which are in the order of their rank.

    Packets are looked at on `points` only; elsewhere somebody else does. `groups` are the control
    groups of processes that tables name; what has none sends nothing. `translated` says that
    somebody may translate addresses here, `sees_sockets` that the kernel can be asked about the
    socket that a packet is sent from.
    """
    drafts = _Drafts(tables, exemptions, drop_unparsable, points, groups, sees_sockets)
    for look in LOOKS:
        drafts.rules.chains[look.base] = []
        programs = drafts.programs(look)
        if programs:
            _begin(drafts.rules, look, translated=translated)
            _branch_to_vrf(drafts, look)
            drafts.branch(look, programs)
    return drafts.rules


@dataclass(frozen=True, slots=True)
class _Drafts:
    """What rules are made of, and the rules so far."""

    tables: Sequence[KernelTable]
    exemptions: Iterable[str]
    drop_unparsable: bool
    points: frozenset[Point]
    groups: Mapping[str, Group | None]
    sees_sockets: bool
    rules: Ruleset = field(default_factory=Ruleset)

    def programs(self, look: Look) -> list[Program]:
        """What is done with packets of each IP version of which anything is to be asked."""
        blocking = any(map(is_block, self.tables))
        patterns = [(name, one) for name in self.exemptions for one in exemption(name).patterns]
        checks_all = blocking and self.drop_unparsable and not look.again
        checked = checks_all and look.point in self.points - {Point.LEAVING}
        found = []
        for family in Family:
            tables = [
                table
                for table in self.tables
                if table.id.family is family
                and look.point in table.id.points & self.points
                and (not table.id.process or self.groups.get(table.id.process))
            ]
            tables = worth_looking_at(in_order(tables, look.point), look)
            if tables or checked:
                found.append(
                    Program(
                        self.rules, look, family, tables, patterns, self.groups, self.sees_sockets
                    )
                )
        return found

    def branch(self, look: Look, programs: list[Program]) -> None:
        """Send packets of each IP version to what is done with them."""
        for program in programs:
            self.rules.add(
                look.base,
                ex.meta(ex.META_NFPROTO),
                ex.compare(ex.EQ, bytes((ex.NFPROTO[program.family],))),
                ex.verdict(GOTO, chain(look.base, program.family)),
            )
            program.render(check=any(map(is_block, self.tables)), drop=self.drop_unparsable)


def _branch_to_vrf(drafts: _Drafts, look: Look) -> None:
    """What passes with a VRF as its link has rules of its own, or none.

    What arrives is judged by the link of the VRF that it came in by, and what is made in the VRF
    for itself came in by none.
    """
    if look.point is Point.LEAVING:
        return
    programs = drafts.programs(look.vrf) if look.vrf else []
    if look.again and not any(table.id.interface_type for table in drafts.tables):
        return
    in_vrf = ex.link_kind(look.link_kind, "vrf")
    if look.vrf and programs:
        drafts.rules.add(look.base, in_vrf, ex.verdict(GOTO, look.vrf.base))
        drafts.branch(look.vrf, programs)
    elif not look.again:
        drafts.rules.add(look.base, in_vrf, ex.verdict(ACCEPT), comment="judged by its link")


def _begin(rules: Ruleset, look: Look, *, translated: bool) -> None:
    """Let pass what is not looked at: loopback, and on leaving what was not forwarded."""
    key = ex.META_IIF if look.point is Point.ARRIVING else ex.META_OIF
    loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
    rules.add(look.base, ex.meta(key), loopback, ex.verdict(ACCEPT))
    if look.point is Point.LEAVING:
        not_forwarded = ex.compare(ex.EQ, ex.host32(0))
        rules.add(look.base, ex.meta(ex.META_IIF), not_forwarded, ex.verdict(ACCEPT))
        # In a VRF what this host sends seems to come in by it, but has the socket it was sent from.
        has_socket = ex.meta(ex.META_SKUID) + ex.compare(ex.GTE, ex.host32(0))
        in_vrf = ex.link_kind(ex.META_IIFKIND, "vrf")
        rules.add(look.base, in_vrf, has_socket, ex.verdict(ACCEPT), comment="sent in a VRF")
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
        ex.address_type(ex.FIB_DADDR) + ex.within(*DELIVERED_TYPES, inverted=True),
        ex.verdict(ACCEPT),
        comment="taken by a transparent proxy",
    )
