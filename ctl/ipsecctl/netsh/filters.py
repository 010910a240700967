"""Owns how the tags of a filter become a filter, and which filters they agree with.

Must not know lists, rules or the store. What is accepted and does not count is said in notes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from ipsecctl.netsh.failing import NotDoneHere, NotUnderstood
from ipsecctl.netsh.words import Given, one_of
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import ipv4_value, ipv6_value, is_mapped, parse_address
from ipsecd.language.quoting import is_number
from ipsecd.language.typography import refuse_typography
from ipsecd.model.addresses import Family, HostName, Keyword, Network
from ipsecd.model.shared_filters import (
    AddressRange,
    ServerKind,
    Servers,
    SharedAddress,
    SharedEndpoint,
    SharedFilter,
)
from ipsecd.model.values import ICMP, MAX_PORT, TCP, UDP, IcmpOfFamily, PortRange
from ipsecd.quoting import quote

Note = Callable[[str], None]
FindServers = Callable[[ServerKind], Servers]

_PROTOCOLS: dict[str, int | IcmpOfFamily | None] = {
    "any": None,
    "icmp": ICMP,
    "tcp": TCP,
    "udp": UDP,
    "raw": 255,
}
_NUMBERS: dict[int, int | IcmpOfFamily | None] = {0: None, 1: ICMP}
"""What these numbers mean to ``netsh``: 0 is any protocol, 1 is ICMP of either IP version."""
_LOOPBACK = 0x7F000001
_ALWAYS = frozenset({Keyword.ANY, Keyword.ME})


@dataclass(frozen=True, slots=True)
class Side:
    """What was given of one side; without ``has_mask`` a host has the mask of a host by default."""

    address: SharedAddress
    has_mask: bool


def filter_of(given: Given, note: Note, find: FindServers) -> SharedFilter:
    """The filter that the tags of ``add filter`` name; raises ``InvalidInput`` or a ``Failure``."""
    source, destination = _sides(given, note, find)
    protocol = _protocol(given.get("protocol", "any"))
    source_ports, destination_ports = (_ports(given, tag, note) for tag in ("srcport", "dstport"))
    if (source_ports or destination_ports) and protocol not in (TCP, UDP):
        raise NotUnderstood("ports go with protocol TCP or UDP", "add protocol=TCP or protocol=UDP")
    try:
        return SharedFilter(
            SharedEndpoint(source.address, source_ports),
            SharedEndpoint(destination.address, destination_ports),
            protocol,
            given.says("mirrored", "yes"),
            description=given.get("description", ""),
        )
    except InvalidInput as error:
        raise NotUnderstood(
            f"srcaddr={quote(given['srcaddr'])} and dstaddr={quote(given['dstaddr'])} make no "
            f"filter: {error.message}",
            error.hint,
        ) from error


class Agreement:
    """Which filters agree with the tags of ``delete filter`` in all that is given."""

    def __init__(self, given: Given, note: Note, find: FindServers) -> None:
        source, destination = _sides(given, note, find)
        self.places = place_of(source.address), place_of(destination.address)
        """Where the filters have to be looked for, see ``place_of``."""
        self._tests: list[Callable[[SharedFilter], bool]] = []
        if source.has_mask:
            self._tests.append(lambda flt: _same(flt.source.address, source.address))
        if destination.has_mask:
            self._tests.append(lambda flt: _same(flt.destination.address, destination.address))
        if "protocol" in given:
            protocol = _protocol(given["protocol"])
            self._tests.append(lambda flt: flt.protocol == protocol)
        if "srcport" in given:
            source_ports = _ports(given, "srcport", note)
            self._tests.append(lambda flt: flt.source.ports == source_ports)
        if "dstport" in given:
            destination_ports = _ports(given, "dstport", note)
            self._tests.append(lambda flt: flt.destination.ports == destination_ports)
        if "mirrored" in given:
            mirrored = given.says("mirrored", "yes")
            self._tests.append(lambda flt: flt.mirrored is mirrored)

    def is_with(self, flt: SharedFilter) -> bool:
        """Whether a filter that is in these places agrees."""
        return all(test(flt) for test in self._tests)


def names_servers(flt: SharedFilter) -> bool:
    """Whether a side of the filter is this host's servers of a kind."""
    return any(isinstance(side.address, Servers) for side in (flt.source, flt.destination))


def refreshed(flt: SharedFilter, find: FindServers) -> SharedFilter:
    """The filter with the servers that this host has now; those it had stay if it has none."""
    sides = []
    for side in (flt.source, flt.destination):
        address = side.address
        if isinstance(address, Servers):
            with suppress(NotDoneHere):
                address = find(address.kind)
        sides.append(SharedEndpoint(address, side.ports))
    return replace(flt, source=sides[0], destination=sides[1])


def place_of(address: SharedAddress) -> object:
    """An address without its mask, so that filters can be found by the addresses alone."""
    if isinstance(address, Network):
        return address.family, address.address
    if isinstance(address, Servers):
        return address.kind
    return address.name if isinstance(address, HostName) else address


def _same(one: SharedAddress, other: SharedAddress) -> bool:
    """Whether two addresses in the same place are the same with their masks."""
    if isinstance(one, Network) and isinstance(other, Network):
        return one.length == other.length
    return True


def _sides(given: Given, note: Note, find: FindServers) -> tuple[Side, Side]:
    texts = given["srcaddr"], given["dstaddr"]
    sides = []
    for tag, mask_tag, other in (("srcaddr", "srcmask", 1), ("dstaddr", "dstmask", 0)):
        text = given[tag]
        kind = next((each for each in ServerKind if each.value == text.lower()), None)
        if kind and texts[other].lower() != "me":
            raise NotUnderstood(
                f"{tag}={quote(text)} needs this host on the other side",
                f"write {'dstaddr' if other else 'srcaddr'}=me",
            )
        if kind:
            sides.append(Side(find(kind), has_mask=True))
        else:
            sides.append(_side(tag, text, given.get(mask_tag), note))
    return sides[0], sides[1]


def _side(tag: str, text: str, mask: str | None, note: Note) -> Side:
    refuse_typography(text)
    low = text.lower()
    if low in ("me", "any"):
        # Whole families of scripts give masks here too, which change nothing.
        return Side(Keyword.ME if low == "me" else Keyword.ANY, has_mask=True)
    if low == "localhost":
        note(f"{tag}=localhost is 127.0.0.1; packets inside this host pass every filter")
        return _network(tag, Family.IPV4, _LOOPBACK, mask)
    first, dash, last = (part.strip() for part in text.partition("-"))
    if dash and _value(first) and _value(last):
        if mask is not None:
            note(f"the mask of {tag}={quote(text)} does not count: a range has its own ends")
        return Side(_range(tag, text, first, last), has_mask=True)
    host, slash, own_mask = text.partition("/")
    host = host.removeprefix("[").removesuffix("]")
    value = _value(host)
    if value is None:
        return _named(tag, text)
    family, number = value
    if slash:
        if mask is not None and mask != own_mask:
            note(f"{tag}={quote(text)} has its mask; the other one does not count")
        mask = own_mask
    if family is Family.IPV4 and number == 0:
        return _zeros(tag, mask)
    return _network(tag, family, number, mask)


def _zeros(tag: str, mask: str | None) -> Side:
    """What 0.0.0.0 is: any address, unless a mask makes a network of it."""
    if mask is None or mask in ("0.0.0.0", "0"):  # noqa: S104 - a mask and no address to listen at
        return Side(Keyword.ANY, has_mask=True)
    if mask in ("255.255.255.255", "32"):
        raise NotUnderstood(
            f"{tag}=0.0.0.0 with the mask of one host is no address",
            f"write {tag}=any or {tag}=me",
        )
    return _network(tag, Family.IPV4, 0, mask)


def _network(tag: str, family: Family, number: int, mask: str | None) -> Side:
    """The network with host bits cut off: scripts give the address of a host and a mask."""
    length = family.bits if mask is None else _mask_length(tag, mask, family)
    dropped = family.bits - length
    return Side(Network(family, number >> dropped << dropped, length), has_mask=mask is not None)


def _named(tag: str, text: str) -> Side:
    try:
        address = parse_address(text)
    except InvalidInput as error:
        raise NotUnderstood(
            f"{tag}={quote(text)} is not an address",
            "write me, any, an address, ADDRESS/24, FIRST-LAST, a DNS name, or dns, wins, dhcp or "
            "gateway",
        ) from error
    if not isinstance(address, HostName):
        raise NotUnderstood(
            f"{tag}={quote(text)} is an address of ipsecctl and not of netsh",
            "rules with it are made with 'ipsecctl rule add'",
        )
    return Side(address, has_mask=True)


def _range(tag: str, text: str, first: str, last: str) -> AddressRange:
    low, high = _value(first), _value(last)
    assert low
    assert high
    (family, begin), (other, end) = low, high
    if family is not other or begin > end:
        raise NotUnderstood(
            f"{tag}={quote(text)} is not a range",
            "write the lower address first, of one IP version",
        )
    return AddressRange(family, begin, end)


def _value(text: str) -> tuple[Family, int] | None:
    """The IP version and number of an address; None if `text` is none."""
    v4 = ipv4_value(text)
    if v4 is not None:
        return Family.IPV4, v4
    v6 = ipv6_value(text)
    if v6 is None or is_mapped(v6):
        return None
    return Family.IPV6, v6


def _mask_length(tag: str, mask: str, family: Family) -> int:
    """The length in bits of a mask: dotted, or a number from 1 on."""
    name = tag.replace("addr", "mask")
    value = ipv4_value(mask)
    length = 0
    if value is not None and family is Family.IPV4:
        length = value.bit_count()
        if value != (1 << 32) - (1 << 32 - length):
            raise NotUnderstood(
                f"{name}={quote(mask)} has gaps", "write a mask such as 255.255.255.0, or 24"
            )
    elif is_number(mask) and len(mask) <= 3:
        length = int(mask)
    if not 1 <= length <= family.bits:
        dotted = " or one such as 255.255.255.0" if family is Family.IPV4 else ""
        raise NotUnderstood(
            f"{name}={quote(mask)} is not a mask", f"write 1 to {family.bits}{dotted}"
        )
    return length


def _protocol(text: str) -> int | IcmpOfFamily | None:
    word = one_of(text, tuple(_PROTOCOLS))
    if word is not None:
        return _PROTOCOLS[word]
    if not is_number(text) or len(text) > 3 or int(text) > 255:
        raise NotUnderstood(
            f"protocol={quote(text)} is not a protocol",
            "write ANY, ICMP, TCP, UDP, RAW or a number up to 255",
        )
    return _NUMBERS.get(int(text), int(text))


def _ports(given: Given, tag: str, note: Note) -> tuple[PortRange, ...]:
    text = given.get(tag, "0")
    if text.lower() == "any":
        note(f"{tag}=any is taken for {tag}=0")
        return ()
    if not is_number(text) or len(text) > 5 or int(text) > MAX_PORT:
        raise NotUnderstood(
            f"{tag}={quote(text)} is not a port",
            f"write one number up to {MAX_PORT}, 0 for any; several ports are several filters",
        )
    return (PortRange(int(text), int(text)),) if int(text) else ()
