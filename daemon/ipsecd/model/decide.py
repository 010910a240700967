"""Owns the meaning of filters: what happens to one packet, as a loop that a reviewer can check.

Every compiled form is tested against it, and ``explain`` answers by it. It shares the order of
precedence with the compiler and nothing else, and need not be fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ipsecd.errors import Refused
from ipsecd.model.addresses import (
    Address,
    Family,
    HostName,
    Keyword,
    ListName,
    Network,
    Process,
    Selector,
)
from ipsecd.model.exemptions import Exemption
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.precedence import ANY_PORT_WIDTH, Place, Rank, place, rank
from ipsecd.model.values import (
    IPV6_EXTENSION_HEADERS,
    Action,
    Endpoint,
    IcmpOfFamily,
    InForce,
    PortRange,
)
from ipsecd.quoting import quote


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a packet, and why.

    ``by`` is the filter that decided and ``beaten`` those that matched too, best first.
    ``reason`` is ``"filter"``, ``"no filter"``, ``"loopback"``, ``"unparsable"`` or the name of
    an exemption; ``by`` is None unless it is ``"filter"``. ``audited`` is the audit that counts the
    packet, which would have blocked it if it were a block; it decides nothing, nor does any other.
    """

    action: Action
    reason: str
    by: InForce | None = None
    beaten: tuple[InForce, ...] = ()
    audited: InForce | None = None


def decide(
    in_force: Iterable[InForce],
    packet: Packet,
    host: Host,
    exemptions: Iterable[Exemption] = (),
    *,
    drop_unparsable: bool = True,
) -> Decision:
    """What the filters `in_force` do with `packet` on `host`.

    Raises ``Refused`` for a filter whose DNS name has not been resolved.
    """
    filters = tuple(in_force)
    if packet.interface_type is None:
        return Decision(Action.PERMIT, "loopback")
    if not packet.parsed:
        blocking = any(candidate.action is Action.BLOCK for candidate in filters)
        drop = drop_unparsable and blocking and packet.point is not Point.LEAVING
        return Decision(Action.BLOCK if drop else Action.PERMIT, "unparsable")
    for exempt in exemptions:
        if any(pattern.matches(packet, host) for pattern in exempt.patterns):
            return Decision(Action.PERMIT, exempt.name)
    matching: list[tuple[Match, InForce]] = []
    for candidate in filters:
        matches = sorted(matches_of(candidate, packet, host), key=best_first)
        if matches:
            matching.append((matches[0], candidate))
    # Filters of equal rank have one verdict; the first by origin is named and counts the packet.
    matching.sort(key=lambda match: (best_first(match[0]), match[1].origin))
    return decision_of([matching_filter for _, matching_filter in matching])


def decision_of(matching: Sequence[InForce]) -> Decision:
    """What filters do with a packet that all of them match, the best of them first.

    An audit counts the packet where it would decide as a block. Then it is as if there were none.
    """
    first = next(iter(matching), None)
    audited = first if first and first.action is Action.AUDIT else None
    best = next((each for each in matching if each.action is not Action.AUDIT), None)
    beaten = tuple(each for each in matching if each is not best and each is not audited)
    if best is None:
        return Decision(Action.PERMIT, "no filter", None, beaten, audited)
    return Decision(best.action, "filter", best, beaten, audited)


class Match(NamedTuple):
    """How a filter matches a packet: the rank of the match, and its place among equal ranks."""

    rank: Rank
    place: Place


def best_first(match: Match) -> tuple[Rank, Place]:
    """What sorts the matches of a packet: the one that comes first decides."""
    return tuple(-part for part in match.rank), match.place


def matches_of(
    in_force: InForce, packet: Packet, host: Host, *, any_source_port: bool = False
) -> Iterator[Match]:
    """Every way in which one filter matches the packet, or does with some source port."""
    flt = in_force.filter
    ways = [(flt.source, flt.destination)]
    if flt.mirrored:
        ways.append((flt.destination, flt.source))
    for source, destination in ways:
        judged = _packet_to_judge(in_force, source, destination, packet)
        if judged is None:
            continue
        of_source = Endpoint(source.address) if any_source_port and source.ports else source
        for protocol in flt.protocols:
            leaving = packet.point is Point.LEAVING
            match = _match_one_way(
                in_force, of_source, destination, protocol, judged, host, leaving=leaving
            )
            if match is not None:
                yield match


def _packet_to_judge(
    in_force: InForce, source: Endpoint, destination: Endpoint, packet: Packet
) -> Packet | None:
    """The packet with the addresses that this direction of a filter is applied to, or None.

    A filter to ``me`` is applied on arrival, one from ``me`` when a packet is sent or leaves, and
    one without ``me`` on arrival or when sent. Permits without ``me`` are applied once more when
    the packet leaves under our address, to the addresses it arrived with: so they keep their rank
    against filters from ``me``.
    """
    from_me = source.address is Keyword.ME
    to_me = destination.address is Keyword.ME
    if isinstance(source.address, Process):
        return packet if packet.point is Point.SENDING and not to_me else None
    if packet.point is Point.ARRIVING:
        return None if from_me else packet
    if to_me:
        return None
    if packet.point is Point.SENDING or from_me:
        return packet
    if in_force.action is Action.PERMIT:
        return packet.arrived or packet
    return None


def _match_one_way(
    in_force: InForce,
    source: Endpoint,
    destination: Endpoint,
    protocol: int | IcmpOfFamily | None,
    packet: Packet,
    host: Host,
    *,
    leaving: bool,
) -> Match | None:
    if not _protocol_matches(protocol, packet):
        return None
    message = _message_range(in_force.filter.message, packet)
    if message is None:
        return None
    conditions = in_force.conditions
    if conditions.interface_type not in (None, packet.interface_type):
        return None
    name = conditions.interface_name
    if name is not None and not name.covers(packet.interface):
        return None
    if conditions.opening and not packet.opening:
        return None
    source_bits = _source_bits(source.address, packet, host)
    destination_bits = _destination_bits(destination.address, packet, host)
    sports = _port_range(source.ports, packet.source_port)
    dports = _port_range(destination.ports, packet.destination_port)
    if source_bits is None or destination_bits is None or sports is None or dports is None:
        return None
    sender = str(source.address) if isinstance(source.address, Process) else ""
    from_me = bool(sender) or source.address is Keyword.ME
    match_rank = rank(
        {
            "source": source_bits,
            "destination": destination_bits,
            "protocol": int(protocol is not None),
            "source_ports": ANY_PORT_WIDTH - sports.width,
            "destination_ports": ANY_PORT_WIDTH - dports.width,
            "message": ANY_PORT_WIDTH - message.width,
            "interface_type": int(conditions.interface_type is not None),
            "interface_name": 2 * int(name is not None),
            "process": int(bool(sender)),
            "opening": int(conditions.opening),
        },
        protected=in_force.origin.protected,
        volatile=in_force.origin.volatile,
        action=in_force.action,
        before_translation=leaving and source.address is not Keyword.ME,
    )
    match_place = place(
        {
            "source": (-1 if from_me else source_bits, _list_name(source.address)),
            "destination": (
                -1 if destination.address is Keyword.ME else destination_bits,
                _list_name(destination.address),
            ),
            "protocol": int(protocol is not None),
            "source_ports": sports.first,
            "destination_ports": dports.first,
            "message": message.first,
            "interface_type": conditions.interface_type.value if conditions.interface_type else "",
            "interface_name": name.pattern if name else "",
            "process": sender,
            "opening": conditions.when or "",
        }
    )
    return Match(match_rank, match_place)


def _protocol_matches(protocol: int | IcmpOfFamily | None, packet: Packet) -> bool:
    if protocol is None:
        return True
    if isinstance(protocol, IcmpOfFamily):
        return packet.protocol == protocol.number(packet.family)
    if packet.family is Family.IPV6 and protocol in IPV6_EXTENSION_HEADERS:
        return False
    return packet.protocol == protocol


def _source_bits(address: Address, packet: Packet, host: Host) -> int | None:
    if isinstance(address, Process) and address not in packet.processes:
        return None
    if address is Keyword.ME or isinstance(address, Process):
        return packet.family.bits if host.sends(packet) else None
    return _bits(address, packet.family, packet.source, host)


def _destination_bits(address: Address, packet: Packet, host: Host) -> int | None:
    if address is Keyword.ME:
        return packet.family.bits if host.receives(packet.family, packet.destination) else None
    return _bits(address, packet.family, packet.destination, host)


def _list_name(address: Address) -> str:
    return address.name if isinstance(address, ListName) else ""


def _bits(address: Address, family: Family, value: int, host: Host) -> int | None:
    """How many bits of `value` the address fixes, or None if it does not match.

    Of the entries of a list that cover the value, the longest is meant: it has the best rank.
    """
    if address is Keyword.ANY:
        return 0
    if isinstance(address, ListName):
        entries = host.lists.get(address.name)
        return max(entries.covering(family, value), default=None) if entries else None
    if isinstance(address, HostName):
        if not address.addresses:
            raise Refused(
                f"DNS name {quote(address.name)} has not been resolved",
                "resolve it, or use an address",
            )
        networks: tuple[Network, ...] = address.addresses
    elif isinstance(address, Selector):
        networks = address.addresses
    else:
        assert isinstance(address, Network)
        networks = (address,)
    lengths = [
        network.length for network in networks if network.family is family and value in network
    ]
    return max(lengths, default=None)


class MatchedRange(NamedTuple):
    """The range of ports, or of types and codes, in a filter that a packet's number is in.

    ``first`` is its first number if it is a range of several but not all, else 0.
    """

    width: int
    first: int = 0


def _port_range(ports: tuple[PortRange, ...], port: int | None) -> MatchedRange | None:
    """The range that `port` is in, or None if it is in none."""
    if not ports:
        return MatchedRange(ANY_PORT_WIDTH)
    if port is None:
        return None
    for ports_range in ports:
        if port in ports_range:
            width = ports_range.width
            return MatchedRange(width, ports_range.first if width > 1 else 0)
    return None


def _message_range(message: IcmpMessage | None, packet: Packet) -> MatchedRange | None:
    """The range of types and codes, as 16 bits, that the packet's is in; None if it is in none."""
    if message is None:
        return MatchedRange(ANY_PORT_WIDTH)
    if packet.icmp_type is None or packet.icmp_type != message.number(packet.family):
        return None
    if message.code is None:
        return MatchedRange(256, packet.icmp_type << 8)
    return MatchedRange(1) if packet.icmp_code == message.code else None
