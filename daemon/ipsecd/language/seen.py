"""Owns how a host sees a packet that was written; must not know how it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipsecd.language.addresses import format_address
from ipsecd.language.packets import PacketText, Side, own_addresses
from ipsecd.language.quoting import wrong
from ipsecd.model.addresses import Family, Keyword, Network, Selector
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.source_ports import EPHEMERAL
from ipsecd.model.values import ICMP_VERSIONS, IcmpOfFamily, InterfaceType
from ipsecd.quoting import quote

Resolve = Callable[[Selector], tuple[Network, ...]]


def _nobody(_: Selector) -> tuple[Network, ...]:
    return ()


def to_packet(
    text: PacketText,
    host: Host,
    interface_types: Mapping[str, InterfaceType | None],
    resolve: Resolve = _nobody,
) -> Packet:
    """The packet as `host` sees it; a type of None is the loopback interface.

    ``me`` becomes an address of the host, and a container one that `resolve` gives, of the other
    side's IP version. Without an interface the packet arrives, unless its source is the host's own.
    A source port that was left out becomes ``EPHEMERAL``.
    """
    sources = _candidates(text, text.source, host, resolve)
    destinations = _candidates(text, text.destination, host, resolve)
    family = _family(text, sources, destinations)
    source, destination = sources[family], destinations[family]
    point = Point.ARRIVING
    if text.direction == "out" or (not text.direction and host.owns(family, source)):
        point = Point.SENDING
    if text.sender and point is not Point.SENDING:
        raise wrong(
            text.text,
            text.text.rindex(str(text.sender)),
            "local processes send under this host's address, and this packet arrives",
            "write me as its source",
        )
    interface_type: InterfaceType | None = InterfaceType.LAN
    if text.interface:
        if text.interface not in interface_types:
            raise wrong(
                text.text,
                text.text.rindex(text.interface),
                f"there is no interface {quote(text.interface)}",
                f"there are: {', '.join(sorted(interface_types)) or 'none'}",
            )
        interface_type = interface_types[text.interface]
    number = text.protocol
    if isinstance(number, IcmpOfFamily):
        number = number.number(family)
    message = text.message
    if message and (number not in ICMP_VERSIONS or family not in ICMP_VERSIONS[number]):
        what = f"protocol {number} is not ICMP in IPv{int(family)}"
        raise wrong(text.text, 0, what, "write icmp, which is that of either IP version")
    icmp_type = message.number(family) if message else None
    if message and icmp_type is None:
        what = f"{quote(text.text)} has a type of ICMP that IPv{int(family)} does not have"
        raise wrong(text.text, 0, what, "give a number, or a name that it has")
    return Packet(
        point,
        family,
        source,
        destination,
        number,
        EPHEMERAL if text.any_source_port else text.source_port,
        text.destination_port,
        interface_type,
        later_fragment=text.fragment,
        icmp_type=icmp_type,
        icmp_code=(message.code if message else None) or 0,
        interface=text.interface,
        opening=text.opening,
        processes=frozenset({text.sender} if text.sender else ()),
    )


def assumed_types(interface: str) -> dict[str, InterfaceType | None]:
    """What kind of link `interface` is, where only its name is known; for ``to_packet``."""
    if interface == "lo":
        return {interface: None}
    dialup = interface.startswith(("ppp", "ww", "dialup"))
    return {interface: InterfaceType.DIALUP if dialup else InterfaceType.LAN}


def _candidates(text: PacketText, side: Side, host: Host, resolve: Resolve) -> dict[Family, int]:
    """The address that one side stands for, in each IP version that it has."""
    if isinstance(side, tuple):
        return {side[0]: side[1]}
    if isinstance(side, Selector):
        addresses = {network.family: network.address for network in reversed(resolve(side))}
        if not addresses:
            name = format_address(side)
            raise wrong(
                text.text,
                text.text.index(name),
                f"{name} has no address that is known here",
                "the containers that are known: ipsecctl show containers",
            )
        return addresses
    return own_addresses(host)


def _family(text: PacketText, source: dict[Family, int], destination: dict[Family, int]) -> Family:
    """The one IP version of both sides; IPv4 where both are possible."""
    common = source.keys() & destination.keys()
    if common:
        return min(common)
    for side, other_addresses in ((text.source, destination), (text.destination, source)):
        if side is Keyword.ME:
            version = int(min(other_addresses, default=Family.IPV4))
            raise wrong(
                text.text,
                0,
                f"'me' in {quote(text.text)} has no IPv{version} address",
                "give the address itself, or say which are this host's with --me",
            )
    raise wrong(
        text.text,
        0,
        f"{quote(text.text)} goes from one IP version to the other",
        "give two addresses of one version",
    )
