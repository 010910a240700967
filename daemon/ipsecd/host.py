"""Owns what this host is at the moment: its interfaces, their types, and its addresses.

Read from rtnetlink when asked for. Enforcement does not depend on it: in the kernel ``me`` is
answered by the routing tables themselves.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from pyroute2 import IPRoute

from ipsecd.model.packets import Host
from ipsecd.model.values import Family, InterfaceType

_DIALUP_ARPHRD = frozenset({256, 257, 258, 259, 512, 519})
_LOOPBACK_ARPHRD = 772
_IFF_UP = 1
_FAMILIES = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6}
_ADDRESS_ROUTES = {3: "broadcast", 4: "anycast"}
"""rtm_type of the routes in the local table that receive for more than one address."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface; ``type`` is None for the loopback interface."""

    name: str
    index: int
    type: InterfaceType | None
    up: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostState:
    """The host's interfaces and addresses at one moment."""

    interfaces: tuple[Interface, ...]
    host: Host

    @property
    def types(self) -> Mapping[str, InterfaceType | None]:
        """The type of every interface, by name."""
        return {interface.name: interface.type for interface in self.interfaces}


def read_host() -> HostState:
    """Ask the kernel for the interfaces and addresses of this network namespace."""
    with IPRoute() as route:
        links = list(route.get_links())
        found = list(route.get_addr())
        local = list(route.get_routes(table=255))
    addresses: dict[int, list[str]] = {}
    own = set()
    for one in found:
        text = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
        family = _FAMILIES.get(one["family"])
        if text and family:
            addresses.setdefault(one["index"], []).append(f"{text}/{one['prefixlen']}")
            own.add((family, _number(text)))
    shared = {
        (_FAMILIES[one["family"]], _number(one.get_attr("RTA_DST")))
        for one in local
        if one["type"] in _ADDRESS_ROUTES and one.get_attr("RTA_DST")
    }
    interfaces = tuple(
        Interface(
            link.get_attr("IFLA_IFNAME"),
            link["index"],
            _type(link["ifi_type"], link.get_attr("IFLA_IFNAME")),
            bool(link["flags"] & _IFF_UP),
            tuple(addresses.get(link["index"], ())),
        )
        for link in links
    )
    return HostState(interfaces, Host(frozenset(own), frozenset(shared)))


def _type(arphrd: int, name: str) -> InterfaceType | None:
    if arphrd == _LOOPBACK_ARPHRD:
        return None
    dialup = arphrd in _DIALUP_ARPHRD or name.startswith("wwan")
    return InterfaceType.DIALUP if dialup else InterfaceType.LAN


def _number(text: str) -> int:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, text), "big")
