"""Owns fail2ban's action: a ban is a dynamic rule of ipsecd, with the ban's own end.

fail2ban-server loads it, and its names and their spelling are fail2ban's. All jails share two
connections to the daemon. It is not called ``ipsecd.py``: fail2ban would register it by that name
among all modules, where the package ``ipsecd`` is meant.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from fail2ban.server.action import ActionBase

# Where the command ipsecctl has its modules; last, so that it hides none of fail2ban's.
sys.path.append("/usr/lib/python3/dist-packages")

from ipsecctl.failures import UnreachableError
from ipsecd_bans.keeper import Ban, end_in, shared

Info = Mapping[str, Any]
"""What fail2ban tells of a ban."""

WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
ALL_PORTS = ("0:65535", "1:65535", "0-65535", "1-65535", "all", "any", "")
EVERY = ("all", "any")
LATEST_PROLONGING_S = 12
"""A little more than the ten seconds after which fail2ban has prolonged a ban that it prolongs: the
kernel must not end it before. fail2ban itself ends shorter ones in time."""


class Action(ActionBase):  # type: ignore[misc] # fail2ban has no types
    """Blocks what a banned address sends to this host, on the ports of its jail.

    ``type`` is ``multiport``, for the jail's ``port`` and ``protocol``, or ``allports``, for its
    protocol alone. With ``keep=yes`` bans stay in force when fail2ban ends, until their own end.
    ``socket`` is that of the daemon. ``chain`` is what fail2ban gives to every action.
    """

    _prolongable = True

    def __init__(self, jail: Any, name: str, **options: str) -> None:
        super().__init__(jail, name)
        self._keeper = shared(options.get("socket"), self._logSys.warning)
        self._take(**options)

    def _take(
        self,
        *,
        type: str = "multiport",
        port: str = "0:65535",
        protocol: str = "tcp",
        keep: str = "no",
        socket: str = "",
        chain: str = "",
    ) -> None:
        del socket, chain
        if keep not in ("yes", "no"):
            raise ValueError(f"keep={keep!r} is neither yes nor no")
        self._keep = keep == "yes"
        self._services = tuple(services(type, port, protocol))

    def clearAllParams(self) -> None:
        """Forget the options: those that are read again come with ``reload``."""

    def reload(self, **options: str) -> None:
        """Take the options of a configuration that was read again; bans in force get them too."""
        before = self._services
        self._take(**options)
        if self._services != before:
            bans = self._keeper.bans(self._prefix)
            self._put(
                {
                    name: Ban(self._filters(name[len(self._prefix) :]), ban.end)
                    for name, ban in bans.items()
                }
            )

    def start(self) -> None:
        """Do nothing: fail2ban bans again what it has in its database."""

    def stop(self) -> None:
        """Do nothing: fail2ban has flushed the bans before."""

    def ban(self, aInfo: Info) -> None:
        """Block an address until its ban ends; the kernel ends it, with or without fail2ban."""
        self._ban(aInfo, LATEST_PROLONGING_S)

    def prolong(self, aInfo: Info) -> None:
        """Block an address for longer, as fail2ban finds soon after a ban (bantime.increment)."""
        self._ban(aInfo, 0)

    def _ban(self, aInfo: Info, least_s: float) -> None:
        bantime = aInfo["bantime"]
        left_s = max(aInfo["time"] + bantime - time.time(), least_s)
        address = self._address(aInfo)
        ban = Ban(self._filters(address), inf if bantime < 0 else end_in(left_s))
        self._put({self._prefix + address: ban})

    def unban(self, aInfo: Info) -> None:
        """End a ban."""
        self._keeper.change(remove=[self._prefix + self._address(aInfo)])

    def flush(self) -> bool:
        """End all bans of the jail, by one call; whether fail2ban need not end them one by one."""
        if self._keep and not self._jail.actions.active:
            return True
        try:
            self._keeper.clear(self._prefix)
        except UnreachableError as error:
            self._logSys.warning("[%s] %s", self._jail.name, error.message)
        return True

    @property
    def _prefix(self) -> str:
        """What the names of its rules begin with; a jail may have several such actions."""
        number = "" if self._name == "ipsecd-block" else f"/{self._name}"
        return f"fail2ban {self._jail.name}{number} "

    def _put(self, bans: Mapping[str, Ban]) -> None:
        refused = self._keeper.change(bans)
        if refused:
            raise ValueError("; ".join(refused.values()))

    def _address(self, aInfo: Info) -> str:
        """The address that is banned, or the network; raises ``ValueError`` for other things."""
        address = aInfo["ip"]
        if aInfo["family"] is None:
            raise ValueError(f"{str(address)!r} is no address, and cannot be blocked")
        return str(address)

    def _filters(self, address: str) -> tuple[str, ...]:
        network, slash, length = address.partition("/")
        source = f"[{network}]{slash}{length}" if ":" in network else address
        return tuple(f"{source}=0{service}" for service in self._services)


def services(type: str, port: str, protocol: str) -> Iterator[str]:
    """What follows ``=0`` in the filters for these options of a jail; raises ``ValueError``."""
    if type not in ("multiport", "allports"):
        raise ValueError(f"type={type!r} is neither multiport nor allports")
    ports = port.strip().lower()
    every_port = type == "allports" or ports in ALL_PORTS
    for name in (word.strip().lower() for word in protocol.split(",")):
        if name in EVERY:
            yield "" if every_port else f":{numbers(ports, 'tcp')}"
        elif every_port:
            yield f"::{name.upper()}"
        elif name in WITH_PORTS:
            yield f":{numbers(ports, name)}:{name.upper()}"
        else:
            raise ValueError(f"protocol={name!r} has no ports: use type=allports")


def numbers(ports: str, protocol: str) -> str:
    """Ports as filters have them, without the names of services; raises ``ValueError``."""
    ranges = []
    for part in ports.split(","):
        first, between, last = part.strip().replace(":", "-").partition("-")
        ranges.append(number(first, protocol) + between + (number(last, protocol) if last else ""))
    return ",".join(ranges)


def number(port: str, protocol: str) -> str:
    """The number of a port, or of the port of a service; raises ``ValueError``."""
    if port.isdecimal():
        # Port 0 begins ranges that mean all ports from the first one on.
        return str(max(1, int(port)))
    # Of HTTP, say, only TCP is in the list of services, and a jail may name UDP too.
    for known in ((port, protocol), (port,)):
        try:
            return str(socket.getservbyname(*known))
        except OSError:
            pass
    raise ValueError(f"port={port!r} is no number, and no service of this host")
