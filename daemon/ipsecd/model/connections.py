"""Owns which connections a set of filters cuts; must not know where connections are found.

A connection is described by the packets that its two ends send each other, at every point where
such a packet is looked at. It is cut if a packet of either direction is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ipsecd.model.packets import Packet

IsBlocked = Callable[[Packet], bool]


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection, or one that this host has to be able to open.

    ``name`` says in words what it is. ``inward`` and ``outward`` are its packets in both directions
    at every point. ``tracked`` says that connection tracking has an entry for it. Where it has
    none, because it tracked nothing when the connection began, it takes the next packet that is
    let through for the beginning of the connection. ``cgroup`` is the inode number of the control
    group of its socket, 0 if that is not known.
    """

    name: str
    inward: tuple[Packet, ...]
    outward: tuple[Packet, ...]
    tracked: bool = True
    cgroup: int = 0

    def cut_by(self, is_blocked: IsBlocked) -> Packet | None:
        """A packet of it that is blocked, for which it does not go on; None if it goes on."""
        for packet in (*self.inward, *self.outward):
            if is_blocked(packet):
                return packet
        if self.tracked:
            return None
        beginnings = [next(_blocked(way, is_blocked), None) for way in (self.inward, self.outward)]
        return beginnings[0] if all(beginnings) else None


def _blocked(way: tuple[Packet, ...], is_blocked: IsBlocked) -> Iterator[Packet]:
    """The packets of one direction that are blocked if they are taken for the first."""
    for packet in way:
        arrived = replace(packet.arrived, opening=True) if packet.arrived else None
        first = replace(packet, opening=True, arrived=arrived)
        if is_blocked(first):
            yield first
