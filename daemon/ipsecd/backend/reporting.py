"""Owns what a backend tells of the packets that it drops, as the kernel saw them.

It must not know rules: which of them decided is found out elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ipsecd.model.packets import Point
from ipsecd.model.values import Action

SNAP_BYTES = 128
"""How much of a packet is kept at most: all headers, with room for extensions."""


@dataclass(frozen=True, slots=True)
class Report:
    """One packet that was dropped, or only counted by an audit.

    ``at_ns`` is the time of the wall clock in nanoseconds. ``interface`` is the index of the link
    by which the packet came or was to leave, 0 if it is not known. ``length`` is that of the whole
    packet in bytes, from its IP header on, and ``packet`` are the first bytes of it, at most
    ``SNAP_BYTES``. ``link_header`` is what stands before, as far as the kernel gave it. ``mark``
    leads to the state that judged: the low 32 bits of a number that grows; 0 if it is not known.
    """

    at_ns: int
    action: Action
    point: Point
    interface: int
    length: int
    link_header: bytes
    packet: bytes
    mark: int = 0


class Reporting(Protocol):
    """What a backend has that can tell which packets it drops."""

    def set_budget(self, packets_per_second: int) -> None:
        """Report so many packets a second at most; 0 switches all of it off, at no cost.

        Called in the kernel's line. What was counted begins anew when it is switched on. Raises
        ``BackendFailed``.
        """

    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that are readable when there are reports; for any thread."""
        ...

    def read(self, most: int) -> list[Report]:
        """The reports of packets that wait, at most so many; it never blocks. One thread calls it.

        A packet that an audit has counted and another rule dropped has two.
        """
        ...

    def blocked(self) -> int:
        """How many packets were dropped, or counted by an audit, since reporting was switched on.

        Called in the kernel's line.
        """
        ...
