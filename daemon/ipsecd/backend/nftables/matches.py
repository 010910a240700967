"""Owns the conditions under which a packet is in a table at one place; must not know verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.keys import as_arrived, from_packet, has_key, key_of
from ipsecd.backend.nftables.lists import ListSets
from ipsecd.backend.nftables.looks import KernelTable, Look, is_of_links, is_permit
from ipsecd.backend.nftables.naming import DIALUP_TYPES
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.compiler.tables import TableId
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point


@dataclass(frozen=True, slots=True)
class Matches:
    """What a rule asks at one place to find a packet in a table."""

    look: Look
    surroundings: Surroundings
    lists: ListSets

    def of(
        self, table: KernelTable, opening: bytes, *, counts: bool = True
    ) -> Iterator[tuple[bytes, ...]]:
        """The conditions, for each way in which a packet can be in the table.

        `opening` is what is asked about connections. What is found counts, unless it `counts`
        nothing, or counts where the packet is looked at otherwise.
        """
        for link in self._links(table):
            for key in self._keys(table.id):
                found = self._count(table) if counts else _find(table)
                yield link, opening, self._sender(table.id), key, found

    def _links(self, table: KernelTable) -> list[bytes]:
        """The conditions on the link, any of which is enough.

        Where the link is a VRF, the link in it is unknown. A table for some links must not block
        there, and must not be outranked; an audit stands for a block.
        """
        if self.look.in_vrf and is_of_links(table):
            return [b""] if is_permit(table) else []
        return _interface(table.id, self.look.point)

    def _count(self, table: KernelTable) -> bytes:
        """Go on if the key is in the table, and count the match unless it counts elsewhere."""
        if self.counts_elsewhere(table):
            return _find(table)
        if table.mapped:
            return ex.counted_in_map(table.set_name)
        count = ex.counted_by(table.counter) if table.counter else b""
        # A table of the policy that looks at no field holds every packet that comes so far.
        return ex.in_set(table.set_name) + count if has_key(table.id) else count

    def counts_elsewhere(self, table: KernelTable) -> bool:
        """Whether a permit counts where the packet is looked at otherwise."""
        leaving = self.look.point is Point.LEAVING and table.id.source != ME
        return is_permit(table) and (leaving or self.look.again or self.look.repeated)

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


def _find(table: KernelTable) -> bytes:
    """Go on if the key is in the table, and count nothing."""
    return ex.in_set(table.uncounted) if has_key(table.id) else b""


def only_opening_from(tables: Sequence[KernelTable]) -> int:
    """The number of the first table from which on all are for packets that open a connection."""
    others = [number for number, table in enumerate(tables) if not table.id.opening]
    return others[-1] + 1 if others else 0


def is_of_connection() -> bytes:
    """Go on only if the packet belongs to a connection."""
    return _connection(ex.NEQ)


def opening(table: TableId) -> bytes:
    """Go on only if the packet belongs to no connection, if that is asked for."""
    return _connection(ex.EQ) if table.opening else b""


def _connection(operator: int) -> bytes:
    of_connection = ex.masked(ex.host32(ex.CT_STATE_OF_CONNECTION))
    return ex.tracked(ex.CT_STATE) + of_connection + ex.compare(operator, ex.host32(0))


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
