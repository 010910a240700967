"""Owns the input and output of rendering: tables in the kernel, places to look, chains of rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.messages import ACCEPT, DROP, GOTO, JUMP
from ipsecd.backend.nftables.naming import AUDITED, DELIVERED, TRACKED, counter_name, uncounted_name
from ipsecd.compiler.tables import TableId
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Origin


@dataclass(frozen=True, slots=True)
class KernelTable:
    """A table as the kernel holds it: its set, and where a match is counted.

    ``counter`` is the counter object of the rule that alone wrote the table. ``mapped`` says that
    the set maps each key to the counter of its rule. Without either, each element of the set has a
    counter of its own, and counts whenever it is looked up. ``only_key`` is the key of a set that
    has one alone, and never another.
    """

    id: TableId
    set_name: str
    counter: str = ""
    mapped: bool = False
    origin: Origin | None = None
    only_key: bytes = b""

    @property
    def uncounted(self) -> str:
        """The set in which to look up a permit or an audit whose match counts elsewhere."""
        return uncounted_name(self.set_name) if self.id.volatile else self.set_name

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets that hold its keys."""
        again = self.id.volatile and self.id.action is not Action.BLOCK
        return (self.set_name, self.uncounted) if again else (self.set_name,)


def kernel_table(table: TableId, name: str, origins: tuple[Origin, ...] = ()) -> KernelTable:
    """A table with a set called `name`; without `origins` each element has its own counter."""
    only_origin = origins[0] if len(origins) == 1 else None
    return KernelTable(
        table,
        name,
        counter=counter_name(only_origin) if only_origin else "",
        mapped=len(origins) > 1,
        origin=only_origin,
    )


@dataclass(frozen=True, slots=True)
class Look:
    """A place where packets are looked at.

    ``again`` says that they are looked at elsewhere with all tables, and that here they are from
    or to ``me``. ``in_vrf`` says that the link is a VRF; which of its links is used is known
    elsewhere. ``repeated`` says that the very same look has been taken before.
    """

    base: str
    point: Point
    again: bool = False
    in_vrf: bool = False
    repeated: bool = False

    @property
    def link_kind(self) -> int:
        """The key that loads the kind of the link by which the packet comes in or goes out."""
        return ex.META_IIFKIND if self.point is Point.ARRIVING else ex.META_OIFKIND

    @property
    def vrf(self) -> Look | None:
        """The look at packets whose link is a VRF; None where they are treated like all others.

        A packet passes prerouting and output twice: with the VRF and with the link itself.
        """
        if self.point is Point.LEAVING or (self.point is Point.ARRIVING and not self.again):
            return None
        return Look(f"{self.base}_vrf", self.point, again=True, in_vrf=True)


def looks(tracked: frozenset[Point], twice: frozenset[Point]) -> Iterator[Look]:
    """All places where packets are looked at.

    At the points `tracked` that is behind connection tracking, at those `twice` before it and once
    more behind it.
    """
    for point in Point:
        if point in tracked:
            yield Look(TRACKED[point], point)
        else:
            yield Look(point.value, point)
        if point in twice:
            yield Look(TRACKED[point], point, repeated=True)
    yield Look(DELIVERED, Point.ARRIVING, again=True)


def tracked_points(tables: Iterable[KernelTable]) -> frozenset[Point]:
    """Where packets have to be looked at behind connection tracking."""
    points = (table.id.points for table in tables if table.id.opening)
    return frozenset().union(*points) & TRACKED.keys()


@dataclass(slots=True)
class Ruleset:
    """Chains with their rules, in the order in which they were begun.

    ``drop`` is what a rule ends with that drops a packet. ``told`` says that somebody is told of
    what audits count, and ``counts_entries`` that entries of some list count what they match.
    """

    chains: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    drop: bytes = ex.verdict(DROP)
    told: bool = False
    counts_entries: bool = False
    _counting: dict[tuple[bytes, ...], str] = field(default_factory=dict)

    def add(self, name: str, *parts: bytes, comment: str = "") -> None:
        """Append a rule to a chain."""
        self.chains.setdefault(name, []).append((b"".join(parts), comment))

    def counting(self, rules: Sequence[tuple[bytes, bool]], verdict: bytes) -> bytes:
        """What a rule ends with that has entries of lists count, by `rules`, before the `verdict`.

        Those that come with True end with it. They stand in a chain of their own: so a packet that
        none of them counts meets the verdict all the same.
        """
        if not rules:
            return verdict
        ends = [counts + (verdict if is_last else b"") for counts, is_last in rules]
        name = self._counting.setdefault((*ends, verdict), f"counting_{len(self._counting) + 1}")
        if name not in self.chains:
            for rule in (*ends, verdict):
                self.add(name, rule)
        return ex.verdict(GOTO, name)

    def audit(self, then: str) -> bytes:
        """What a rule ends with that is an audit: the packet goes on in `then`, or passes without.

        It is told of before that.
        """
        onward = ex.verdict(GOTO, then) if then else ex.verdict(ACCEPT)
        if not self.told:
            return onward
        name = f"told_{then}" if then else "told_passing"
        if name not in self.chains:
            self.add(name, ex.verdict(JUMP, AUDITED))
            self.add(name, onward)
        return ex.verdict(GOTO, name)


def worth_looking_at(tables: list[KernelTable], look: Look) -> list[KernelTable]:
    """Those of the `tables`, in their order, that can change what happens to a packet.

    Leaving packets are looked at only for blocks and audits, and for permits above them. A packet
    that is looked at again met elsewhere all tables except, perhaps, those of ``me``: only these
    can block it here, or count it. Whether an audit has counted it is asked only where it is
    delivered; where else it was looked at before, audits have counted it.
    """
    if look.repeated or (look.again and look.point is not Point.ARRIVING):
        tables = [table for table in tables if not is_audit(table)]
    if look.again:
        if not any(is_audit(table) and is_of_me(table) for table in tables):
            tables = [table for table in tables if not is_audit(table)]
        tables = [table for table in tables if not is_block(table) or is_of_me(table)]
    elif look.point is not Point.LEAVING:
        return tables
    last = max((n for n, table in enumerate(tables) if not is_permit(table)), default=-1)
    return tables[: last + 1]


def is_block(table: KernelTable) -> bool:
    """Whether packets that match the table are blocked."""
    return table.id.action is Action.BLOCK


def is_audit(table: KernelTable) -> bool:
    """Whether packets that match the table are only counted."""
    return table.id.action is Action.AUDIT


def is_permit(table: KernelTable) -> bool:
    """Whether packets that match the table pass."""
    return table.id.action is Action.PERMIT


def is_of_me(table: KernelTable) -> bool:
    """Whether the table is for packets from or to this host."""
    return ME in (table.id.source, table.id.destination)


def is_of_links(table: KernelTable) -> bool:
    """Whether the table is for packets of some links only."""
    return bool(table.id.interface_type or table.id.interface_name)
