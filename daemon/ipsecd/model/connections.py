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
    let through for the beginning of the connection. ``one_way`` says that perhaps only one end ever
    sends, as with UDP as long as no answer is known: of one that is tracked, that is the end whose
    packets open it. ``cgroup`` is the inode number of the control group of its socket, 0 if that is
    not known.
    """

    name: str
    inward: tuple[Packet, ...]
    outward: tuple[Packet, ...]
    tracked: bool = True
    cgroup: int = 0
    one_way: bool = False

    def cut_by(self, is_blocked: IsBlocked) -> Packet | None:
        """A packet of it that is blocked, for which it does not go on; None if it goes on."""
        packets = (*self.inward, *self.outward)
        if self.one_way:
            packets = tuple(each for each in packets if self.tracked and each.opening)
        for packet in packets:
            if is_blocked(packet):
                return packet
        if self.tracked:
            return None
        beginnings = self._beginnings(is_blocked)
        return beginnings[0] if all(beginnings) else None

    def held_up_by(self, is_blocked: IsBlocked) -> Packet | None:
        """A packet for which a connection that is not cut may be cut all the same; None if none is.

        One that is not tracked goes on only if the other end sends a packet first, and one that was
        never answered if it needs no answer.
        """
        if not self.tracked:
            return next(filter(None, self._beginnings(is_blocked)), None)
        if not self.one_way:
            return None
        answers = (each for each in (*self.inward, *self.outward) if not each.opening)
        return next(filter(is_blocked, answers), None)

    def _beginnings(self, is_blocked: IsBlocked) -> list[Packet | None]:
        """For each direction a packet that is blocked, as the first or later, or None."""
        return [next(_blocked(way, is_blocked), None) for way in (self.inward, self.outward)]


def _blocked(way: tuple[Packet, ...], is_blocked: IsBlocked) -> Iterator[Packet]:
    """The packets of one direction that are blocked, or would be if they are taken for first."""
    for packet in way:
        arrived = replace(packet.arrived, opening=True) if packet.arrived else None
        first = replace(packet, opening=True, arrived=arrived)
        yield from filter(is_blocked, (first, packet))
