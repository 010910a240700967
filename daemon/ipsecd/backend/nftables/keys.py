"""Owns laying the key of a table into registers, from a packet or from what is tracked of it."""

from __future__ import annotations

from collections.abc import Callable

from ipsecd.backend.nftables import expressions as ex
from ipsecd.compiler.tables import EXACT_PORT, Ports, TableId
from ipsecd.model.values import Family

Loader = Callable[[str, Family, int], bytes]


def key_of(table: TableId, load: Loader) -> bytes:
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


def from_packet(name: str, family: Family, register: int) -> bytes:
    """Load a field from the packet as it is now."""
    if name in ("sport", "dport"):
        return ex.payload(ex.TRANSPORT_HEADER, 0 if name == "sport" else 2, 2, register)
    size = family.bits // 8
    source = 12 if family is Family.IPV4 else 8
    offset = source if name == "saddr" else source + size
    return ex.payload(ex.NETWORK_HEADER, offset, size, register)


def as_arrived(direction: int) -> Loader:
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
