"""Owns how a filter is written out for ``netdiag``: one block per direction, address and port.

Must not know the layout. A filter without ``me`` is judged on packets that arrive and on packets
that are sent, so its block is both inbound and outbound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from ipsecd.language.addresses import format_address, format_value
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, HostName, Keyword, Network, Process, Selector
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.values import Endpoint, IcmpOfFamily, PortRange


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a block, as text: ``ports`` is 0 for any, a port, or first-last."""

    address: str
    mask: str
    ports: str


@dataclass(frozen=True, slots=True)
class Block:
    """One way of one filter between two addresses; ``ways`` holds Inbound, Outbound or both.

    ``protocol`` is its number, with the type and code of ICMP behind it where they are given.
    """

    family: Family
    source: Side
    destination: Side
    protocol: str
    ways: tuple[str, ...]

    @property
    def any_address(self) -> str:
        """The address that means none in this block's family."""
        return "0.0.0.0" if self.family is Family.IPV4 else "::"  # noqa: S104 - text, not a bind

    @property
    def words(self) -> tuple[str, ...]:
        """All that tells this block from the others of its filter's rule."""
        sides = (self.source, self.destination)
        texts = (text for side in sides for text in (side.address, side.mask, side.ports))
        return (*texts, self.protocol, *self.ways)


def blocks_of(text: str, own: list[str]) -> Iterator[Block]:
    """The blocks of the filter `text` on a machine with the addresses `own`.

    On one that has none yet ``0`` is shown as it is written: the filter is in force even so.
    """
    flt = parse_filter(text)
    own = own or [Keyword.ME.value]
    ways = [(flt.source, flt.destination)]
    if flt.mirrored:
        ways.append((flt.destination, flt.source))
    for source, destination in ways:
        families = sorted(flt.families)
        if _is_name(source, destination):
            # What it resolves to the daemon knows; it is shown by name, and once.
            families = families[:1]
        for family in families:
            mine = [address for address in own if (":" in address) is (family is Family.IPV6)]
            sides = product(_sides(source, family, mine), _sides(destination, family, mine))
            for (left, right), protocol in product(sides, flt.protocols):
                number = _number(protocol, family) + _message(flt.message, family)
                yield Block(family, left, right, number, _ways(source, destination))


def _is_name(source: Endpoint, destination: Endpoint) -> bool:
    return any(
        isinstance(one.address, HostName | Selector | Process) for one in (source, destination)
    )


def _ways(source: Endpoint, destination: Endpoint) -> tuple[str, ...]:
    from_me = source.address is Keyword.ME or isinstance(source.address, Process)
    to_me = destination.address is Keyword.ME
    if from_me == to_me:
        return ("Inbound", "Outbound")
    return ("Inbound",) if to_me else ("Outbound",)


def _sides(endpoint: Endpoint, family: Family, mine: list[str]) -> list[Side]:
    ports = [_ports(one) for one in endpoint.ports] or ["0"]
    address = endpoint.address
    full = _mask(family, family.bits)
    if address is Keyword.ME:
        pairs = [(one, full) for one in mine]
    elif isinstance(address, Network):
        shown = format_value(family, address.address)
        pairs = [(shown, _mask(family, address.length))]
    elif isinstance(address, HostName):
        pairs = [(address.name, full)]
    elif isinstance(address, Selector | Process):
        pairs = [(format_address(address), full)]
    else:
        pairs = [(format_value(family, 0), _mask(family, 0))]
    return [Side(one, mask, port) for one, mask in pairs for port in ports]


def _ports(ports: PortRange) -> str:
    return str(ports.first) if ports.width == 1 else f"{ports.first}-{ports.last}"


def _number(protocol: int | IcmpOfFamily | None, family: Family) -> str:
    number = protocol.number(family) if isinstance(protocol, IcmpOfFamily) else protocol
    return str(number or 0)


def _message(message: IcmpMessage | None, family: Family) -> str:
    if message is None:
        return ""
    code = "" if message.code is None else f"/{message.code}"
    return f"/{message.number(family)}{code}"


def _mask(family: Family, length: int) -> str:
    return format_value(family, (1 << family.bits) - (1 << (family.bits - length)))
