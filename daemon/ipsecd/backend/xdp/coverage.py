"""Owns which interfaces get programs, and which program each gets; pure.

A packet of the IP stack should meet a program once on its way in and once on its way out. Frames
that a bridge only passes on do not belong to the stack. nftables judges also the packets that meet
no program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ipsecd.host.interfaces import Interface
from ipsecd.model.values import InterfaceType

BRIDGES = frozenset({"bridge", "openvswitch", "hsr"})
"""Kinds of links that pass frames on between their ports, and get only those for this host."""

BUNDLES = frozenset({"bond", "team"})
"""Kinds of links that get all packets of their ports. An XDP program on such a link keeps ports
with a program from joining it, so arriving packets are looked at on the ports."""

SHARING = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
"""Kinds of links that take frames from the link below for others than this host, such as another
namespace."""

MAX_TAGS = 2
"""How many VLAN tags the programs see through."""


class CoveredInterface(NamedTuple):
    """An interface that should have programs.

    ``suffix`` ends the names of its programs. ``arriving`` and ``leaving`` say which of its packets
    they look at. ``xdp`` has the mode and number of each XDP program that it ran when it was read.
    """

    ifindex: int
    name: str
    suffix: str
    arriving: bool = True
    leaving: bool = True
    xdp: tuple[tuple[int, int], ...] = ()

    @property
    def suffix_of_other_type(self) -> str:
        """The suffix that it has as soon as a new name makes it another type of interface."""
        kind, bare, _ = self.suffix.partition("_bare")
        return f"{_OTHER_TYPE[kind]}{bare}"


_OTHER_TYPE = {
    InterfaceType.LAN.value: InterfaceType.DIALUP.value,
    InterfaceType.DIALUP.value: InterfaceType.LAN.value,
}


Covered = Mapping[int, CoveredInterface]
"""Interfaces that should have programs, by their index."""


def covered_interfaces(interfaces: Iterable[Interface]) -> Covered:
    """The interfaces that should have programs, by index."""
    by_index = {interface.index: interface for interface in interfaces}
    shared = {
        interface.lower
        for interface in by_index.values()
        if interface.kind in SHARING or (interface.kind == "vlan" and interface.port_of in BRIDGES)
    }
    return {
        interface.index: CoveredInterface(
            interface.index,
            interface.name,
            _suffix(interface),
            arriving=interface.kind not in BUNDLES and interface.index not in shared,
            leaving=interface.port_of not in BUNDLES,
            xdp=interface.xdp,
        )
        for _, interface in sorted(by_index.items())
        if interface.type is not None
        and interface.readable
        and not _is_covered_elsewhere(interface, by_index)
    }


def _is_covered_elsewhere(interface: Interface, by_index: dict[int, Interface]) -> bool:
    """Whether the programs of another interface see all packets of this one."""
    if interface.port_of in BRIDGES:
        return True
    tags = 0
    while interface.kind == "vlan" and interface.lower in by_index:
        interface = by_index[interface.lower]
        tags += 1
    return 0 < tags <= MAX_TAGS and not interface.port_of and interface.type is not None


def _suffix(interface: Interface) -> str:
    kind = (interface.type or InterfaceType.LAN).value
    return f"{kind}_bare" if interface.bare else kind
