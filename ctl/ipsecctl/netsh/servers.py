"""Owns where this host's own servers are found: DNS, WINS, DHCP and the gateway.

They are what resolv.conf(5), smb.conf(5), the leases of dhclient(8), systemd-networkd and
NetworkManager, and route(4) in /proc say. Must not know what asks.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ipsecctl.netsh.failing import NotDoneHere
from ipsecd.errors import InvalidInput
from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.model.addresses import Family, Network
from ipsecd.model.shared_filters import ServerKind, Servers

_LEASES = (
    "var/lib/dhcp/*.lease*",
    "run/systemd/netif/leases/*",
    "var/lib/NetworkManager/*.lease",
    "run/NetworkManager/devices/*",
)
_DHCP_SERVER = re.compile(
    r"(?:dhcp-server-identifier|SERVER_ADDRESS|dhcp_server_identifier)[ =]+([0-9.]+)"
)
_WINS_SERVER = re.compile(r"^\s*wins server\s*=\s*(.+)$", re.MULTILINE | re.IGNORECASE)
_NAME_SERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
_UP_AND_GATEWAY = 0x3
"""RTF_UP and RTF_GATEWAY of <linux/route.h>."""


def servers_of_this_host(kind: ServerKind, root: Path = Path("/")) -> Servers:
    """The servers of a kind that this host has now; raises ``NotDoneHere`` if there are none.

    A resolver on a loopback address is none: what it asks is not known, and nothing filters there.
    """
    found = []
    for text in _FINDERS[kind](root):
        v4, v6 = ipv4_value(text), ipv6_value(text.partition("%")[0])
        if v4 is not None and v4 >> 24 != 127:
            found.append(Network(Family.IPV4, v4, 32))
        elif v6 is not None and v6 != 1:
            found.append(Network(Family.IPV6, v6, 128))
    try:
        return Servers(kind, tuple(found))
    except InvalidInput as error:
        raise NotDoneHere(
            f"this host knows no {kind.value.upper()} server", "write its address"
        ) from error


def _dns(root: Path) -> Iterator[str]:
    # What systemd-resolved asks itself comes first: the other file names only its own address.
    for path in ("run/systemd/resolve/resolv.conf", "etc/resolv.conf"):
        yield from _NAME_SERVER.findall(_content(root / path))


def _wins(root: Path) -> Iterator[str]:
    for line in _WINS_SERVER.findall(_content(root / "etc/samba/smb.conf")):
        yield from re.split(r"[\s,]+", line.strip())


def _dhcp(root: Path) -> Iterator[str]:
    for pattern in _LEASES:
        for path in sorted(root.glob(pattern)):
            yield from _DHCP_SERVER.findall(_content(path))


def _gateway(root: Path) -> Iterator[str]:
    for line in _content(root / "proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[1] == "00000000" and _is_gateway(fields[3]):
            yield socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
    for line in _content(root / "proc/net/ipv6_route").splitlines():
        fields = line.split()
        is_default = len(fields) > 8 and fields[1] == "00" and not int(fields[0], 16)
        if is_default and _is_gateway(fields[8]) and int(fields[4], 16):
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[4]))


def _is_gateway(flags: str) -> bool:
    return int(flags, 16) & _UP_AND_GATEWAY == _UP_AND_GATEWAY


def _content(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


_FINDERS: dict[ServerKind, Callable[[Path], Iterator[str]]] = {
    ServerKind.DNS: _dns,
    ServerKind.WINS: _wins,
    ServerKind.DHCP: _dhcp,
    ServerKind.GATEWAY: _gateway,
}
