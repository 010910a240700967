"""Owns what this host is at the moment: its interfaces, their types, and its addresses.

Read from rtnetlink when asked for. Enforcement does not depend on it: in the kernel ``me`` is
answered by the routing tables themselves.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ipsecd.host.netlink import FAMILIES, attributes
from ipsecd.host.rtnetlink import IFADDRMSG, IFINFOMSG, RTMSG, RouteSocket
from ipsecd.model.addresses import Family, Network
from ipsecd.model.packets import Host
from ipsecd.model.values import InterfaceType

T = TypeVar("T")

_DIALUP_ARPHRD = frozenset({256, 257, 258, 259, 512, 519})
_LOOPBACK_ARPHRD = 772
_WITH_ETHERNET = frozenset({1, _LOOPBACK_ARPHRD})
_BARE_ARPHRD = _DIALUP_ARPHRD | {768, 769, 776, 778, 823, 0xFFFE}
"""Links without a header of their own: PPP, raw IP, IP tunnels, GRE, tun (linux/if_arp.h)."""
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID, _IFLA_XDP = 3, 5, 18, 37, 43
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_KIND = 1, 4
_IFLA_XDP_ATTACHED, _IFLA_XDP_PROG_ID = 2, 4
_XDP_MODES = {1: 5, 2: 6, 3: 7}
"""For each mode the attribute with its program: IFLA_XDP_DRV_PROG_ID and the two that follow."""
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST = 1
_IFF_UP = 1
_LOCAL_ROUTE = 2
_ADDRESS_ROUTES = frozenset({3, 4})
"""rtm_type of the routes of broadcast and anycast addresses, which more than one host receives."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface; ``type`` is None for the loopback interface.

    ``bare`` says that its packets have no link-layer header. ``kind`` is its driver as rtnetlink
    names it ("" for hardware), and ``port_of`` the kind of the bridge or bond whose port it is.
    ``lower`` is the index of the interface that it lies on, 0 if there is none in this namespace.
    ``xdp`` has the mode (1 native, 2 generic, 3 offloaded) and the number of each XDP program that
    it runs. ``readable`` says that its headers are those of Ethernet, or that it has none.
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
    """Networks whose packets a route alone delivers here, 127.0.0.0/8 among them."""

    @property
    def types(self) -> Mapping[str, InterfaceType | None]:
        """The type of every interface, by name."""
        return {interface.name: interface.type for interface in self.interfaces}


class HostReader:
    """Reads the interfaces and addresses of this network namespace, again and again.

    What the kernel has answered before is not taken apart anew: of 100,000 addresses few change.
    """

    def __init__(self) -> None:
        self._addresses: dict[bytes, _Address | None] = {}
        self._routes: dict[bytes, _Destination | None] = {}

    def __call__(self) -> HostState:
        """Ask the kernel."""
        with RouteSocket() as route:
            links = route.links()
            address_answers = [answer for number in FAMILIES for answer in route.addresses(number)]
            route_answers = [answer for number in FAMILIES for answer in route.local_routes(number)]
        self._addresses = _taken_apart(address_answers, self._addresses, _address)
        self._routes = _taken_apart(route_answers, self._routes, _destination)
        addresses = [address for address in self._addresses.values() if address]
        routes = [route for route in self._routes.values() if route]
        texts: dict[int, list[str]] = {}
        for link, text, _ in addresses:
            texts.setdefault(link, []).append(text)
        own = {value for _, _, value in addresses}
        own |= {value for value, length, is_shared in routes if not length and not is_shared}
        shared = frozenset(value for value, _, is_shared in routes if is_shared)
        networks = frozenset(Network(*value, length) for value, length, _ in routes if length)
        interfaces = tuple(_interface(link, texts) for link in links)
        return HostState(interfaces, Host(frozenset(own), shared), networks)


def read_host() -> HostState:
    """Ask the kernel for the interfaces and addresses of this network namespace."""
    return HostReader()()


class _Address(NamedTuple):
    """An address, the index of its link, and how it is written."""

    link: int
    text: str
    value: tuple[Family, int]


class _Destination(NamedTuple):
    """What a route delivers here: an address, or all of a network with ``length`` first bits.

    An address ``is_shared`` if other hosts receive it as well.
    """

    value: tuple[Family, int]
    length: int | None
    is_shared: bool


def _taken_apart(
    answers: Iterable[bytes],
    known: Mapping[bytes, T],
    take_apart: Callable[[bytes], T],
) -> dict[bytes, T]:
    """What each of the answers says, in their order; None if it is nothing of interest."""
    return {answer: known[answer] if answer in known else take_apart(answer) for answer in answers}


def _address(answer: bytes) -> _Address | None:
    number, length, _, _, index = IFADDRMSG.unpack_from(answer)
    parts = dict(attributes(answer, IFADDRMSG.size))
    # Where there is a peer, IFA_ADDRESS is the address of the peer.
    value = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS)
    if not value:
        return None
    text = f"{socket.inet_ntop(number, value)}/{length}"
    return _Address(index, text, (FAMILIES[number], int.from_bytes(value, "big")))


def _destination(answer: bytes) -> _Destination | None:
    """The destination that a route of the local table delivers here, if it does."""
    number, length, _, _, _, _, _, kind, _ = RTMSG.unpack_from(answer)
    if kind != _LOCAL_ROUTE and kind not in _ADDRESS_ROUTES:
        return None
    family = FAMILIES[number]
    for name, value in attributes(answer, RTMSG.size):
        if name == _RTA_DST:
            is_shared = kind in _ADDRESS_ROUTES
            is_network = not is_shared and length != family.bits
            destination = family, int.from_bytes(value, "big")
            return _Destination(destination, length if is_network else None, is_shared)
    return None


def _interface(link: bytes, addresses: Mapping[int, list[str]]) -> Interface:
    _, arphrd, index, flags, _ = IFINFOMSG.unpack_from(link)
    parts = dict(attributes(link, IFINFOMSG.size))
    name = _text(parts[_IFLA_IFNAME])
    info = dict(attributes(parts.get(_IFLA_LINKINFO, b"")))
    return Interface(
        name,
        index,
        _type(arphrd, name),
        bool(flags & _IFF_UP),
        tuple(addresses.get(index, ())),
        arphrd not in _WITH_ETHERNET,
        _text(info.get(_IFLA_INFO_KIND, b"")),
        _text(info.get(_IFLA_INFO_SLAVE_KIND, b"")),
        # The index of an interface in another namespace means nothing in this one.
        0 if _IFLA_LINK_NETNSID in parts else _number(parts.get(_IFLA_LINK, b"")),
        _xdp(dict(attributes(parts.get(_IFLA_XDP, b"")))),
        arphrd in _WITH_ETHERNET or arphrd in _BARE_ARPHRD,
    )


def _xdp(parts: Mapping[int, bytes]) -> tuple[tuple[int, int], ...]:
    """The mode and number of every program, from the attributes in IFLA_XDP."""
    programs = [(mode, _number(parts.get(name, b""))) for mode, name in _XDP_MODES.items()]
    running = tuple((mode, program) for mode, program in programs if program)
    program = _number(parts.get(_IFLA_XDP_PROG_ID, b""))
    if not running and program:
        return ((_number(parts.get(_IFLA_XDP_ATTACHED, b"")), program),)
    return running


def _text(value: bytes) -> str:
    # The kernel takes any bytes but "/", ":" and white space as a name.
    return value.rstrip(b"\0").decode(errors="backslashreplace")


def _number(value: bytes) -> int:
    """A number of one or four bytes in the kernel's byte order; 0 if there are no bytes."""
    return int.from_bytes(value, sys.byteorder)


def _type(arphrd: int, name: str) -> InterfaceType | None:
    if arphrd == _LOOPBACK_ARPHRD:
        return None
    # systemd names modems wwan0 or wwp0s20u2i4, for example (systemd.net-naming-scheme(7)).
    dialup = arphrd in _DIALUP_ARPHRD or name.startswith("ww")
    return InterfaceType.DIALUP if dialup else InterfaceType.LAN
