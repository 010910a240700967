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
from ipsecd.model.addresses import Family, HostName, Keyword, ListName, Network, Process, Selector
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.values import Endpoint, IcmpOfFamily, PortRange


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a block, as text: ``ports`` is 0 for any port, one port, or FIRST-LAST."""

    address: str
    mask: str
    ports: str


@dataclass(frozen=True, slots=True)
class Block:
    """One direction of one filter, between two addresses.

    ``ways`` holds Inbound, Outbound or both. ``protocol`` is the number of the protocol, with the
    type and code of ICMP behind it where the filter has them.
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

    If the machine has no address yet, ``0`` is shown as it is written: the filter is in force
    even so.
    """
    flt = parse_filter(text)
    own = own or [Keyword.ME.value]
    ways = [(flt.source, flt.destination)]
    if flt.mirrored:
        ways.append((flt.destination, flt.source))
    for source, destination in ways:
        families = sorted(flt.families)
        if _is_name(source, destination):
            # Only the daemon knows which addresses a name stands for, so one block shows the name.
            families = families[:1]
        for family in families:
            mine = [address for address in own if (":" in address) is (family is Family.IPV6)]
            sides = product(_sides(source, family, mine), _sides(destination, family, mine))
            for (source_side, destination_side), protocol in product(sides, flt.protocols):
                number = _number(protocol, family) + _message(flt.message, family)
                yield Block(
                    family, source_side, destination_side, number, _ways(source, destination)
                )


def _is_name(source: Endpoint, destination: Endpoint) -> bool:
    return any(
        isinstance(endpoint.address, HostName | Selector | ListName | Process)
        for endpoint in (source, destination)
    )


def _ways(source: Endpoint, destination: Endpoint) -> tuple[str, ...]:
    from_me = source.address is Keyword.ME or isinstance(source.address, Process)
    to_me = destination.address is Keyword.ME
    if from_me == to_me:
        return ("Inbound", "Outbound")
    return ("Inbound",) if to_me else ("Outbound",)


def _sides(endpoint: Endpoint, family: Family, mine: list[str]) -> list[Side]:
    ports = [_ports(port_range) for port_range in endpoint.ports] or ["0"]
    address = endpoint.address
    full = _mask(family, family.bits)
    if address is Keyword.ME:
        pairs = [(own_address, full) for own_address in mine]
    elif isinstance(address, Network):
        network = format_value(family, address.address)
        pairs = [(network, _mask(family, address.length))]
    elif isinstance(address, HostName):
        pairs = [(address.name, full)]
    elif isinstance(address, Selector | ListName | Process):
        pairs = [(format_address(address), full)]
    else:
        pairs = [(format_value(family, 0), _mask(family, 0))]
    return [Side(shown, mask, port) for shown, mask in pairs for port in ports]


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
