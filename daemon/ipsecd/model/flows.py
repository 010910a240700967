"""Owns what a flow is: packets that are alike to whoever writes filters. Pure.

Of two ports one is that of a service, and the other one any that a client was given. A flow knows
the first, so that a thousand connections to a service are one flow for each peer.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.model.addresses import Family
from ipsecd.model.packets import Packet, Point

CLIENT_PORTS = 32768
"""From here on systems take ports for clients: Linux, and others from 49152 on (RFC 6335)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets that one rule noted, and that have all of this in common.

    Addresses are integers in host order. ``source_port`` and ``destination_port`` are None where
    the protocol has no ports, and at the side of the client. ``icmp_type`` is None without ICMP.
    ``interface`` is the name of the link, "" if it is not known.
    """

    rule: str
    point: Point
    family: Family
    protocol: int
    source: int
    destination: int
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int = 0
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A flow with how many packets it had, and when the first and the last of them came.

    Times are those of the wall clock, in nanoseconds since the epoch.
    """

    flow: Flow
    packets: int
    first_ns: int
    last_ns: int


def flow_of(packet: Packet, rule: str, flags: str = "") -> Flow | None:
    """The flow that `packet`, which `rule` noted, belongs to; `flags` are those of TCP it has.

    None if no filter could be narrow enough for it: a later fragment has no ports, no filter can
    name port 0, and of a packet that cannot be read nothing is known.
    """
    ports = (packet.source_port, packet.destination_port)
    if packet.later_fragment or not packet.parsed or 0 in ports:
        return None
    source_port, destination_port = ports
    if source_port is not None and destination_port is not None:
        if is_answer(source_port, destination_port, flags):
            destination_port = None
        else:
            source_port = None
    return Flow(
        rule,
        packet.point,
        packet.family,
        packet.protocol,
        packet.source,
        packet.destination,
        source_port,
        destination_port,
        packet.icmp_type,
        packet.icmp_code if packet.icmp_type is not None else 0,
        packet.interface,
    )


def is_answer(source_port: int, destination_port: int, flags: str = "") -> bool:
    """Whether a packet goes from a service to its client, as far as it shows.

    The first two packets of a connection of TCP say so (RFC 9293, section 3.5). Of others the port
    that no client is given is that of the service, and the lower one if that does not tell.
    """
    if "S" in flags:
        return "A" in flags
    if (source_port < CLIENT_PORTS) is not (destination_port < CLIENT_PORTS):
        return source_port < CLIENT_PORTS
    return source_port < destination_port
