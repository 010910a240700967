"""Owns all packets of one IP version at one point, as a number in each of some dimensions.

Every combination of numbers is a packet, and every packet that filters tell apart from others has
one. Must not know filters, but for the names of links and of local processes that they tell apart.

A packet that leaves is one that was forwarded, and differs from how it arrived in its source, which
is an address of this host then, and in its link. It is told by the source that it arrived with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_letters, ascii_lowercase, digits
from typing import NamedTuple

from ipsecd.errors import LimitExceeded
from ipsecd.language.seen import assumed_types
from ipsecd.model.addresses import Family, Network, Process
from ipsecd.model.kinds import MAX_LINK_NAME, InterfaceType, LinkName
from ipsecd.model.packets import LIMITED_BROADCAST, MULTICAST, ZERO_NETWORK, Host, Packet, Point
from ipsecd.model.values import (
    ICMP,
    IPV6_EXTENSION_HEADERS,
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    TCP,
    UDP,
)
from ipsecd.proof.choice import Addresses, choose_number
from ipsecd.proof.spans import Span, Spans, united

SOURCE, DESTINATION = "source", "destination"
HEADER = "header"
SOURCE_PORT, DESTINATION_PORT, MESSAGE = "source port", "destination port", "message"
LINK, LINK_IN = "link", "link in"
"""The link by which a packet comes in or goes out, and by which one that leaves came in."""
GROUP = "control group"
OPENING = "opening"

Types = Mapping[str, InterfaceType | None]
"""The links of a host, with their types; None is the loopback interface."""

MAX_SERVICES = 100
"""Each is a dimension of its own, as a sender may belong to any of them."""


class Header(NamedTuple):
    """What a packet says before its ports: its protocol, and whether it is a later fragment."""

    protocol: int
    fragment: bool = False


class Link(NamedTuple):
    """A link that filters can tell from others; its name is "" where that does not matter."""

    kind: InterfaceType
    name: str = ""


class Dimension(NamedTuple):
    """A dimension: its name and its greatest number; the least is 0."""

    name: str
    last: int


@dataclass(frozen=True)
class Words:
    """The names in filters that packets are compared with by other means than their bytes."""

    patterns: frozenset[LinkName] = frozenset()
    processes: frozenset[Process] = frozenset()


class Space:
    """The packets of one IP version at one point, as a host with some links sees them."""

    def __init__(
        self, family: Family, point: Point, host: Host, words: Words, types: Types
    ) -> None:
        self.family, self.point, self.host = family, point, host
        self._addresses = {
            dimension: Addresses(host, family, point, dimension)
            for dimension in (SOURCE, DESTINATION)
        }
        self.headers = tuple(_headers(family))
        self._headers_of: dict[tuple[Spans | None, bool], Spans] = {}
        self.links = tuple(_links(words.patterns, types))
        self._plain = _plain_links(words.patterns, types)
        sending = point is Point.SENDING
        processes = sorted(words.processes, key=str) if sending else []
        self.groups = tuple(_groups(p for p in processes if p.kind == "cgroup"))
        self.services = tuple(p for p in processes if p.kind != "cgroup")
        if len(self.services) > MAX_SERVICES:
            raise LimitExceeded(
                f"the rules name {len(self.services):,} services, and at most {MAX_SERVICES} can "
                "be told apart in a proof",
                "name the control group that they are in",
            )
        top = (1 << family.bits) - 1
        sizes = {
            SOURCE: top,
            DESTINATION: top,
            HEADER: len(self.headers) - 1,
            SOURCE_PORT: MAX_PORT,
            DESTINATION_PORT: MAX_PORT,
            MESSAGE: 0xFFFF,
            LINK: len(self.links) - 1,
            OPENING: 1,
            GROUP: len(self.groups) - 1,
            **{str(service): 1 for service in self.services},
        }
        if point is Point.LEAVING:
            sizes[LINK_IN] = len(self.links) - 1
        self.dimensions = tuple(Dimension(name, last) for name, last in sizes.items())

    # -- What filters ask for, as spans of numbers -----------------------------------------------

    def headers_of(self, protocols: Spans | None, *, whole: bool) -> Spans:
        """The headers with one of some protocols (None: with any); only whole ones if `whole`."""
        asked = protocols, whole
        if asked not in self._headers_of:
            self._headers_of[asked] = united(
                (number, number)
                for number, header in enumerate(self.headers)
                if not (whole and header.fragment)
                and (
                    protocols is None
                    or any(first <= header.protocol <= last for first, last in protocols)
                )
            )
        return self._headers_of[asked]

    def links_of(self, kind: str, pattern: str) -> Spans:
        """The links of a type, and those that a pattern is for; both may be ""."""
        name = LinkName(pattern) if pattern else None
        return united(
            (number, number)
            for number, link in enumerate(self.links)
            if kind in ("", link.kind.value) and (name is None or name.covers(link.name))
        )

    def senders_of(self, process: str) -> tuple[str, Spans]:
        """The dimension that tells what local processes send from the rest, and their numbers."""
        for service in self.services:
            if str(service) == process:
                return process, ((1, 1),)
        holding = (n for n, group in enumerate(self.groups) if process in map(str, group))
        return GROUP, united((number, number) for number in holding)

    def multicast(self) -> Spans:
        """The addresses that are multicast."""
        return united(_span_of(net) for net in MULTICAST if net.family is self.family)

    def broadcast(self) -> Spans:
        """The addresses that ``exemptions.cast_of`` takes for broadcast."""
        if self.family is not Family.IPV4:
            return ()
        return united(
            [
                _span_of(ZERO_NETWORK),
                (LIMITED_BROADCAST, LIMITED_BROADCAST),
                *self._single(self.host.broadcasts),
            ]
        )

    def received(self) -> Spans:
        """The addresses to which packets are delivered here, as ``Host.receives`` has them."""
        single = self._single(self.host.addresses | self.host.broadcasts)
        return united([*single, *self.multicast(), *self.broadcast()])

    def _single(self, addresses: Iterable[tuple[Family, int]]) -> list[Span]:
        return [(value, value) for family, value in addresses if family is self.family]

    # -- Examples --------------------------------------------------------------------------------

    def choose(self, dimension: str, span: Span) -> tuple[int, int]:
        """How bad an example the best number of a span makes, and that number; 0 is best."""
        if dimension in self._addresses:
            return self._addresses[dimension].choose(span)
        return choose_number(self.family, dimension, span)

    def good(self, dimension: str, span: Span) -> list[int]:
        """The numbers of a span, if it has any, that make the best examples of all."""
        addresses = self._addresses.get(dimension)
        return addresses.good(span) if addresses else []

    def packet(self, numbers: Mapping[str, int]) -> Packet:
        """The packet that has these numbers."""
        header = self.headers[numbers[HEADER]]
        with_ports = header.protocol in PROTOCOLS_WITH_PORTS and not header.fragment
        is_icmp = header.protocol == ICMP.number(self.family) and not header.fragment
        message = numbers[MESSAGE] if is_icmp else None
        senders = {service for service in self.services if numbers[str(service)]}
        packet = Packet(
            self.point,
            self.family,
            numbers[SOURCE],
            numbers[DESTINATION],
            header.protocol,
            numbers[SOURCE_PORT] if with_ports else None,
            numbers[DESTINATION_PORT] if with_ports else None,
            later_fragment=header.fragment,
            icmp_type=None if message is None else message >> 8,
            icmp_code=(message or 0) & 0xFF,
            opening=not numbers[OPENING],
            processes=frozenset(senders | self.groups[numbers[GROUP]]),
        )
        packet = self._on_link(packet, self.links[numbers[LINK]])
        if self.point is not Point.LEAVING:
            return packet
        arrived = replace(packet, point=Point.ARRIVING)
        arrived = self._on_link(arrived, self.links[numbers[LINK_IN]])
        own = min(value for family, value in self.host.addresses if family is self.family)
        return replace(packet, source=own, arrived=arrived)

    def _on_link(self, packet: Packet, link: Link) -> Packet:
        """The packet on a link, which has a name where the packet cannot be written without."""
        name = link.name
        own = self.host.owns(packet.family, packet.source)
        is_assumed = packet.point is Point.LEAVING or own is (packet.point is Point.SENDING)
        if not name and not (is_assumed and link.kind is InterfaceType.LAN):
            name = self._plain[link.kind]
        return replace(packet, interface_type=link.kind, interface=name)


def _span_of(network: Network) -> Span:
    last = network.address | (1 << network.family.bits - network.length) - 1
    return network.address, last


def _headers(family: Family) -> Iterator[Header]:
    """Every header that a packet can have, those that are met most first.

    An extension header of IPv6 is the protocol of a later fragment only: others are seen through.
    """
    first = (TCP, UDP, ICMP.number(family))
    protocols = (*first, *(number for number in range(256) if number not in first))
    hidden = IPV6_EXTENSION_HEADERS if family is Family.IPV6 else frozenset()
    yield from (Header(number) for number in protocols if number not in hidden)
    yield from (Header(number, fragment=True) for number in protocols)


def _groups(processes: Iterable[Process]) -> Iterator[frozenset[Process]]:
    """The control groups that a sender can be in: none, or one with those above it."""
    groups = tuple(processes)
    yield frozenset()
    for group in groups:
        yield frozenset(
            above for above in groups if f"{group.name}/".startswith(f"{above.name.rstrip('/')}/")
        )


def _links(patterns: frozenset[LinkName], types: Types) -> Iterator[Link]:
    """A link of either type for every set of patterns that a name can be meant by.

    Those come first that there are, or whose type can be told from their names.
    """
    candidates = [Link(InterfaceType.LAN)]
    names = [*_names(patterns, types)]
    candidates += [Link(kind, name) for name in names if (kind := _kind(name, types))]
    candidates += [Link(kind, name) for name in ("", *names) for kind in InterfaceType]
    met = set()
    for link in candidates:
        meant_by = frozenset(p for p in patterns if p.covers(link.name))
        if (link.kind, meant_by) not in met:
            met.add((link.kind, meant_by))
            # Where no pattern is for it, the name does not matter.
            yield link if meant_by else Link(link.kind)


def _kind(name: str, types: Types) -> InterfaceType | None:
    return types[name] if name in types else assumed_types(name)[name]


def _names(patterns: frozenset[LinkName], types: Types) -> Iterator[str]:
    """Names of links, of which there is one for every set of patterns that one can be meant by."""
    if len(patterns) > len(_ENDINGS):
        raise LimitExceeded(
            f"the rules name {len(patterns):,} interfaces, and at most {len(_ENDINGS)} can be told "
            "apart in a proof",
            "name several together, as in wg*",
        )
    for name, kind in sorted(types.items()):
        if kind is not None:
            yield name
    for pattern in sorted(patterns, key=lambda each: each.pattern):
        beginning = pattern.pattern.removesuffix("*")
        yield beginning
        if pattern.is_prefix and len(beginning.encode()) < MAX_LINK_NAME:
            # No other pattern is for more than one of these, unless it is for the beginning too.
            yield from (beginning + more for more in _ENDINGS[: len(patterns)])


_ENDINGS = f"{digits}{ascii_letters}-_"
"""What can follow the beginning of a name."""


def _plain_links(patterns: frozenset[LinkName], types: Types) -> dict[InterfaceType, str]:
    """For each type a link that no pattern means: one that there is, if possible."""
    candidates: dict[InterfaceType, Sequence[str]] = {
        InterfaceType.LAN: ("eth0", "lan0", *(f"{letter}0" for letter in ascii_lowercase)),
        InterfaceType.DIALUP: ("ppp0", "wwan0", *(f"ppp{letter}" for letter in ascii_lowercase)),
    }
    plain = {}
    for kind, names in candidates.items():
        there = sorted(name for name, its_kind in types.items() if its_kind is kind)
        others = [name for name in names if types.get(name, kind) is kind]
        free = (n for n in (*there, *others) if not any(p.covers(n) for p in patterns))
        plain[kind] = next(free, "")
    return plain
