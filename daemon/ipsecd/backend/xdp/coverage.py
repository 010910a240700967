"""Owns which interfaces get programs, and which program each gets; pure.

A packet of the IP stack should meet a program once on its way in and once on its way out. Frames
that a bridge only passes on are not the stack's. What meets no program is judged all the same, by
nftables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipsecd.host.interfaces import Interface
from ipsecd.model.values import InterfaceType

BRIDGES = frozenset({"bridge", "openvswitch", "hsr"})
"""What has ports whose frames are mostly passed on: only those for this host come up to it."""

BUNDLES = frozenset({"bond", "team"})
"""What has ports whose packets are all its own. An XDP program on it keeps ports from joining that
have one, so what arrives is looked at on the ports."""

SHARING = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
"""What takes frames of the link below that are not this host's, in another namespace maybe."""

MAX_TAGS = 2
"""How many VLAN tags the programs see through."""


class Wanted(NamedTuple):
    """An interface that should have programs; ``suffix`` ends the names of those it gets.

    ``arriving`` and ``leaving`` say which of its packets they look at.
    """

    ifindex: int
    name: str
    suffix: str
    arriving: bool = True
    leaving: bool = True


def wanted(interfaces: Iterable[Interface]) -> list[Wanted]:
    """The interfaces that should have programs, by index."""
    by_index = {interface.index: interface for interface in interfaces}
    shared = {
        interface.lower
        for interface in by_index.values()
        if interface.kind in SHARING or (interface.kind == "vlan" and interface.port_of in BRIDGES)
    }
    return [
        Wanted(
            interface.index,
            interface.name,
            _suffix(interface),
            arriving=interface.kind not in BUNDLES and interface.index not in shared,
            leaving=interface.port_of not in BUNDLES,
        )
        for _, interface in sorted(by_index.items())
        if interface.type is not None
        and interface.readable
        and not _seen_elsewhere(interface, by_index)
    ]


def _seen_elsewhere(interface: Interface, by_index: dict[int, Interface]) -> bool:
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
