"""Owns what this host is at the moment: its interfaces, their types, and its addresses.

Read from rtnetlink when asked for. Enforcement does not depend on it: in the kernel ``me`` is
answered by the routing tables themselves.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute

from ipsecd.model.packets import Host
from ipsecd.model.values import Family, InterfaceType, Network

_DIALUP_ARPHRD = frozenset({256, 257, 258, 259, 512, 519})
_LOOPBACK_ARPHRD = 772
_WITH_ETHERNET = frozenset({1, _LOOPBACK_ARPHRD})
_BARE_ARPHRD = _DIALUP_ARPHRD | {768, 769, 776, 778, 823, 0xFFFE}
"""Links without a header of their own: PPP, raw IP, IP tunnels, GRE, tun (linux/if_arp.h)."""
_XDP_MODES = {1: "IFLA_XDP_DRV_PROG_ID", 2: "IFLA_XDP_SKB_PROG_ID", 3: "IFLA_XDP_HW_PROG_ID"}
_IFF_UP = 1
_FAMILIES = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6}
_LOCAL_ROUTE = 2
_ADDRESS_ROUTES = {3: "broadcast", 4: "anycast"}
"""rtm_type of the routes in the local table that receive for more than one address."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface; ``type`` is None for the loopback interface.

    ``bare`` says that its packets have no link-layer header. ``kind`` is its driver as rtnetlink
    names it ("" for hardware), ``port_of`` that of the bridge or bond whose port it is, and
    ``lower`` the index of the interface that it lies on, 0 if on none here. ``xdp`` has the mode
    (1 native, 2 generic, 3 offloaded) and number of the program that each mode runs. Not
    ``readable`` is a link whose headers are neither Ethernet's nor absent.
    """

    name: str
    index: int
    type: InterfaceType | None
    up: bool
    addresses: tuple[str, ...]
    bare: bool = False
    kind: str = ""
    port_of: str = ""
    lower: int = 0
    xdp: tuple[tuple[int, int], ...] = ()
    readable: bool = True


@dataclass(frozen=True, slots=True)
class HostState:
    """The host's interfaces and addresses at one moment."""

    interfaces: tuple[Interface, ...]
    host: Host
    local_networks: frozenset[Network] = frozenset()
    """Networks that are delivered here by a route alone, 127.0.0.0/8 among them."""

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
    networks = set()
    for one in local:
        text, family = one.get_attr("RTA_DST"), _FAMILIES[one["family"]]
        if one["type"] != _LOCAL_ROUTE or not text:
            continue
        if one["dst_len"] == family.bits:
            own.add((family, _number(text)))
        else:
            networks.add(Network(family, _number(text), one["dst_len"]))
    interfaces = tuple(
        Interface(
            link.get_attr("IFLA_IFNAME"),
            link["index"],
            _type(link["ifi_type"], link.get_attr("IFLA_IFNAME")),
            bool(link["flags"] & _IFF_UP),
            tuple(addresses.get(link["index"], ())),
            link["ifi_type"] not in _WITH_ETHERNET,
            _info(link, "IFLA_INFO_KIND"),
            _info(link, "IFLA_INFO_SLAVE_KIND"),
            0
            if link.get_attr("IFLA_LINK_NETNSID") is not None
            else link.get_attr("IFLA_LINK") or 0,
            _xdp(link),
            link["ifi_type"] in _WITH_ETHERNET | _BARE_ARPHRD,
        )
        for link in links
    )
    return HostState(interfaces, Host(frozenset(own), frozenset(shared)), frozenset(networks))


def _info(link: Any, name: str) -> str:
    info = link.get_attr("IFLA_LINKINFO")
    return (info.get_attr(name) if info else None) or ""


def _xdp(link: Any) -> tuple[tuple[int, int], ...]:
    xdp = link.get_attr("IFLA_XDP")
    found = []
    for mode, name in _XDP_MODES.items():
        number = xdp.get_attr(name) if xdp else None
        if number:
            found.append((mode, number))
    if xdp and not found and xdp.get_attr("IFLA_XDP_PROG_ID"):
        found.append((xdp.get_attr("IFLA_XDP_ATTACHED"), xdp.get_attr("IFLA_XDP_PROG_ID")))
    return tuple(found)


def _type(arphrd: int, name: str) -> InterfaceType | None:
    if arphrd == _LOOPBACK_ARPHRD:
        return None
    dialup = arphrd in _DIALUP_ARPHRD or name.startswith("wwan")
    return InterfaceType.DIALUP if dialup else InterfaceType.LAN


def _number(text: str) -> int:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, text), "big")
