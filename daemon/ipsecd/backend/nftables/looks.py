"""Owns what is rendered from and into: tables in the kernel, places to look, chains of rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.naming import DELIVERED, counter_name, uncounted_name
from ipsecd.compiler.tables import TableId
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Origin


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


def kernel_table(table: TableId, name: str, origins: tuple[Origin, ...] = ()) -> KernelTable:
    """A table with a set called `name`; without `origins` its elements count for themselves."""
    alone = origins[0] if len(origins) == 1 else None
    return KernelTable(
        table,
        name,
        counter=counter_name(alone) if alone else "",
        mapped=len(origins) > 1,
        origin=alone,
    )


@dataclass(frozen=True, slots=True)
class Look:
    """A place where packets are looked at.

    ``again``: they are looked at elsewhere with all tables, and here they are from or to ``me``.
    ``in_vrf``: the link is the VRF, and which link of it is used is known elsewhere.
    """

    base: str
    point: Point
    again: bool = False
    in_vrf: bool = False

    @property
    def link_kind(self) -> int:
        """What tells of which kind the link is that the packet comes in or goes out by."""
        return ex.META_IIFKIND if self.point is Point.ARRIVING else ex.META_OIFKIND

    @property
    def vrf(self) -> Look | None:
        """The look at what passes here with a VRF as its link; None if it is like any other.

        A packet passes prerouting and output twice: with the VRF and with the link itself.
        """
        if self.point is Point.LEAVING or self == LOOKS[0]:
            return None
        return Look(f"{self.base}_vrf", self.point, again=True, in_vrf=True)


LOOKS = (*(Look(point.value, point) for point in Point), Look(DELIVERED, Point.ARRIVING, True))


@dataclass(slots=True)
class Ruleset:
    """Chains with their rules, in the order in which they were begun."""

    chains: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)

    def add(self, name: str, *parts: bytes, comment: str = "") -> None:
        """Append a rule to a chain."""
        self.chains.setdefault(name, []).append((b"".join(parts), comment))


def worth_looking_at(tables: list[KernelTable], look: Look) -> list[KernelTable]:
    """Of the tables in their order, those that can change what happens to a packet.

    What leaves is only looked at for blocks, and for permits above them. What is looked at again
    meets all tables elsewhere but, perhaps, those of ``me``: here nothing else can block it.
    """
    if look.again:
        tables = [table for table in tables if not is_block(table) or is_of_me(table)]
    elif look.point is not Point.LEAVING:
        return tables
    blocks = [n for n, table in enumerate(tables) if is_block(table)]
    return tables[: blocks[-1] + 1] if blocks else []


def is_block(table: KernelTable) -> bool:
    """Whether what the table holds is blocked."""
    return table.id.action is Action.BLOCK


def is_of_me(table: KernelTable) -> bool:
    """Whether the table is for packets from or to this host."""
    return ME in (table.id.source, table.id.destination)
