"""Owns who on this host sends a packet, as far as its sockets tell; must not know filters.

The control group of a socket is asked of the kernel, and goes by its name from then on. A socket
that has gone meanwhile cannot be asked, and looking takes longer the more sockets there are.
"""

from __future__ import annotations

import time

from ipsecd.backend.nftables import cgroups
from ipsecd.errors import IpsecdError
from ipsecd.host.sock_diag import STATES, SockDiag
from ipsecd.language.addresses import parse_address
from ipsecd.model.addresses import Process
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import TCP, UDP

RELIED_ON_S = 2.0
"""How long an answer is relied on."""
SHARE = 10
"""Asking takes at most one part in so many of the time."""
REMEMBERED = 1024

Local = tuple[int, int, int]
"""A protocol, a local address and a port."""


class Senders:
    """Answers for one thread."""

    def __init__(self) -> None:
        self._found: dict[Local, tuple[float, Process | None]] = {}
        self._paths: dict[int, str] = {}
        self._rest_until = 0.0

    def of(self, packet: Packet) -> Process | None:
        """The local processes that send `packet`; None if it is not known."""
        is_asked = packet.point is Point.SENDING and packet.protocol in (TCP, UDP)
        if not is_asked or packet.source_port is None:
            return None
        local = packet.protocol, packet.source, packet.source_port
        now = time.monotonic()
        until, process = self._found.get(local, (0.0, None))
        if now < until or now < self._rest_until:
            return process
        process = self._ask(local)
        done = time.monotonic()
        self._rest_until = done + (done - now) * SHARE
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[local] = done + RELIED_ON_S, process
        return process

    def _ask(self, local: Local) -> Process | None:
        protocol, address, port = local
        try:
            with SockDiag() as diag:
                found = list(diag.sockets(protocol, STATES, local_port=port))
        except OSError:
            return None
        exact = [each for each in found if each.local == address]
        groups = {each.cgroup for each in exact or found if each.cgroup}
        if len(groups) != 1:
            return None
        (group,) = groups
        if group not in self._paths:
            self._paths = cgroups.paths_by_number()
        return _process(self._paths.get(group, ""))


def _process(path: str) -> Process | None:
    """The processes in a control group, by the name of a service if it is that of one."""
    name = path.rpartition("/")[2]
    text = f"service:{name}" if name.endswith(".service") else f"cgroup:{path}"
    try:
        process = parse_address(text)
    except IpsecdError:
        # Not every name of a group can be written in a filter.
        return None
    return process if isinstance(process, Process) else None
