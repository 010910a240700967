"""Owns what is known of one packet that was dropped: what it was, and which rule decided.

It must not know how the kernel tells of packets.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.model.addresses import Network
from ipsecd.model.kinds import Action
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Filter, Origin

LINK_ETHERNET, LINK_RAW = 1, 101
"""What ``head`` begins with: an Ethernet header, or at once the IP header. The numbers are those of
pcapng (LINKTYPE_ETHERNET and LINKTYPE_RAW of https://www.tcpdump.org/linktypes.html)."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One packet that was dropped, or that an audit counted, and what decided about it.

    ``at_ns`` is the time of the wall clock in nanoseconds. ``origin`` is None where no rule
    decided, as of packets that cannot be read, or where the rule is not known any more; then
    ``filter`` is None too. ``list_name`` and ``entry`` are those of the list that decided, "" and
    None without one. ``flags`` are those of TCP that are set, out of ``SAFRPUEC``. ``length`` is
    that of the whole packet in bytes, and ``head`` what is known of its bytes, for ``link_type``.
    ``process`` and ``container`` are "" where they are not known.
    """

    at_ns: int
    action: Action
    origin: Origin | None
    filter: Filter | None
    list_name: str
    entry: Network | None
    point: Point
    interface: str
    packet: Packet
    flags: str
    length: int
    head: bytes
    link_type: int
    process: str = ""
    container: str = ""
