"""Owns where a packet goes on that an audit has counted: in chains without audits. Sends nothing.

No rule can tell that a packet was counted before, so the rules that follow an audit stand once more
in chains that have no audits. What follows a later audit is the end of what follows an earlier one,
so these chains are cut into few parts that lead to each other: the kernel takes only so many chains
in a row (NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ipsecd.backend.nftables.looks import KernelTable, is_audit

MOST_IN_A_ROW = 6
"""How many parts follow each other. Five more chains lead to the first, and the kernel takes 16."""


@dataclass(frozen=True, slots=True)
class Part:
    """A chain in which packets are looked up that an audit has counted.

    They are looked up in the first ``end`` of ``tables``, and then in the chain ``then`` in the
    others; it is empty if there are none.
    """

    name: str
    tables: list[KernelTable]
    end: int
    then: str


class Onward:
    """Where packets go on behind each audit among the tables of a chain."""

    def __init__(
        self,
        name: str,
        tables: list[KernelTable],
        idle: Callable[[KernelTable], bool] | None = None,
    ) -> None:
        """`tables` are those of the chain `name`, in their order.

        With `idle` packets come that were counted before. It says which tables make no difference
        where only such ones follow.
        """
        self.name = name
        self.tables = tables
        self._again = idle is not None
        self._plain = [table for table in tables if not is_audit(table)]
        while idle and self._plain and idle(self._plain[-1]):
            self._plain.pop()
        self._step = max(1, -(-len(self._plain) // MOST_IN_A_ROW))
        self._places: dict[str, int] = {}
        place = 0
        for table in tables:
            if is_audit(table):
                self._places[table.set_name] = place
            else:
                place += 1

    @property
    def without_audits(self) -> str:
        """The chain that looks up all tables but audits; "" if they make no difference."""
        return self._chain_at(0)

    def after(self, audit: KernelTable) -> str:
        """The chain that follows an audit; "" if nothing but audits does."""
        return self._chain_at(self._places[audit.set_name])

    @property
    def parts(self) -> list[Part]:
        """The chains that follow audits."""
        begun = {*self._places.values(), *((0,) if self._again else ())}
        first = min(begun, default=len(self._plain))
        in_a_row = range(first - first % self._step + self._step, len(self._plain), self._step)
        places = sorted({*begun, *in_a_row})
        return [self._part(place) for place in places if place < len(self._plain)]

    def _part(self, place: int) -> Part:
        following = place - place % self._step + self._step
        rest = self._plain[place:]
        return Part(self._chain_at(place), rest, following - place, self._chain_at(following))

    def _chain_at(self, place: int) -> str:
        return f"{self.name}_audited_{place}" if place < len(self._plain) else ""
