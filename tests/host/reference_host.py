"""What this host is, as read by pyroute2: slow, and independent of how ipsecd reads it."""

from __future__ import annotations

import socket
from typing import Any

from pyroute2 import IPRoute

from ipsecd.host.interfaces import HostState, Interface
from ipsecd.model.addresses import Family, Network
from ipsecd.model.packets import Host
from ipsecd.model.values import InterfaceType

FAMILIES = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6}
LOCAL, BROADCAST, ANYCAST = 2, 3, 4
ETHERNET, LOOPBACK = 1, 772
DIALUP = {256, 257, 258, 259, 512, 519}
BARE = DIALUP | {768, 769, 776, 778, 823, 0xFFFE}


def reference_host() -> HostState:
    """Interfaces and addresses of this network namespace."""
    with IPRoute() as route:
        links = list(route.get_links())
        addresses = list(route.get_addr())
        routes = list(route.get_routes(table=255))
    texts: dict[int, list[str]] = {}
    own, shared, networks = set(), set(), set()
    for message in addresses:
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        texts.setdefault(message["index"], []).append(f"{text}/{message['prefixlen']}")
        own.add((FAMILIES[message["family"]], number(text)))
    for message in routes:
        family, text = FAMILIES[message["family"]], message.get_attr("RTA_DST")
        if text and message["type"] in (BROADCAST, ANYCAST):
            shared.add((family, number(text)))
        elif text and message["type"] == LOCAL and message["dst_len"] == family.bits:
            own.add((family, number(text)))
        elif text and message["type"] == LOCAL:
            networks.add(Network(family, number(text), message["dst_len"]))
    interfaces = tuple(interface(link, tuple(texts.get(link["index"], ()))) for link in links)
    return HostState(interfaces, Host(frozenset(own), frozenset(shared)), frozenset(networks))


def interface(link: Any, addresses: tuple[str, ...]) -> Interface:
    info = link.get_attr("IFLA_LINKINFO")
    foreign = link.get_attr("IFLA_LINK_NETNSID") is not None
    arphrd, name = link["ifi_type"], link.get_attr("IFLA_IFNAME")
    dialup = arphrd in DIALUP or name.startswith("ww")
    lan = InterfaceType.DIALUP if dialup else InterfaceType.LAN
    return Interface(
        name,
        link["index"],
        None if arphrd == LOOPBACK else lan,
        bool(link["flags"] & 1),
        addresses,
        arphrd not in (ETHERNET, LOOPBACK),
        (info and info.get_attr("IFLA_INFO_KIND")) or "",
        (info and info.get_attr("IFLA_INFO_SLAVE_KIND")) or "",
        0 if foreign else link.get_attr("IFLA_LINK") or 0,
        programs(link.get_attr("IFLA_XDP")),
        arphrd in {ETHERNET, LOOPBACK} | BARE,
    )


def programs(xdp: Any) -> tuple[tuple[int, int], ...]:
    names = ("IFLA_XDP_DRV_PROG_ID", "IFLA_XDP_SKB_PROG_ID", "IFLA_XDP_HW_PROG_ID")
    modes = [(mode, xdp.get_attr(name)) for mode, name in enumerate(names, 1)] if xdp else []
    return tuple((mode, program) for mode, program in modes if program)


def number(text: str) -> int:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, text), "big")
