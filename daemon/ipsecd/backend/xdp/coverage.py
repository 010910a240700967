"""Owns which interfaces must have programs, and which program each gets; pure.

A packet of the IP stack must meet a program once on its way in and once on its way out, on the
interface where nftables would see it. Frames that a bridge only passes on are not the stack's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipsecd.host import Interface
from ipsecd.model.values import InterfaceType

BUNDLES = frozenset({"bridge", "bond", "team", "openvswitch", "hsr"})
"""What has ports: their packets reach the stack on it, and only few of a kind on them."""

MAX_TAGS = 2
"""How many VLAN tags the programs see through."""


class Wanted(NamedTuple):
    """An interface that must have programs; ``suffix`` ends the names of those it gets.

    It is empty where no program can read the headers of the link.
    """

    ifindex: int
    name: str
    suffix: str


def wanted(interfaces: Iterable[Interface]) -> list[Wanted]:
    """The interfaces that must have programs, by index."""
    found = {one.index: one for one in interfaces}
    return [
        Wanted(one.index, one.name, _suffix(one))
        for one in sorted(found.values(), key=lambda one: one.index)
        if one.type is not None and not _seen_below(one, found)
    ]


def _seen_below(one: Interface, found: dict[int, Interface]) -> bool:
    """Whether the programs of another interface see all packets of this one."""
    if one.port_of in BUNDLES:
        return True
    tags = 0
    while one.kind == "vlan" and one.lower in found:
        one = found[one.lower]
        tags += 1
    return tags > 0 and tags <= MAX_TAGS and one.port_of not in BUNDLES and one.type is not None


def _suffix(one: Interface) -> str:
    if not one.readable:
        return ""
    kind = (one.type or InterfaceType.LAN).value
    return f"{kind}_bare" if one.bare else kind
