"""Owns asking the kernel for sockets; must not know what they are used for.

Sources: sock_diag(7), include/uapi/linux/inet_diag.h. An IPv4 connection of a socket that listens
for IPv6 as well is told as one of IPv4, which its packets are.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipsecd.host.netlink import FAMILIES, attributes
from ipsecd.host.netlink_socket import NetlinkSocket
from ipsecd.language.addresses import is_mapped
from ipsecd.model.addresses import Family

NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
STATES = {
    1: "established",
    2: "syn-sent",
    3: "syn-recv",
    4: "fin-wait-1",
    5: "fin-wait-2",
    6: "time-wait",
    7: "unconnected",
    8: "close-wait",
    9: "last-ack",
    10: "listening",
    11: "closing",
}
"""The states of sockets (include/net/tcp_states.h), by the words of ss(8) and its like."""
ESTABLISHED, SYN_SENT, TIME_WAIT, UNCONNECTED, LISTENING = 1, 2, 6, 7, 10
_REQUEST = struct.Struct("=BBBxI")
"""``struct inet_diag_req_v2`` without the identity: family, protocol, extensions, states."""
_IDENTITY = struct.Struct("=2s2s16s16sI8s")
"""``struct inet_diag_sockid``: ports and addresses in network byte order, link, cookie."""
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
"""``struct inet_diag_msg``: family, state, timer, retransmissions, identity, then: when the timer
expires, both queues, user, inode."""
_CGROUP_ID = 21


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket: addresses as integers in host order, the remote one 0 if it is not connected.

    ``link`` is the index of the link that it is bound to, 0 for none. ``cgroup`` is the number of
    the control group in which it was made, 0 where the kernel does not tell (before Linux 5.9).
    ``state`` is one of STATES, and ``uid`` the user who owns it.
    """

    family: Family
    protocol: int
    local: int
    local_port: int
    remote: int
    remote_port: int
    link: int
    inode: int
    cgroup: int = 0
    state: int = ESTABLISHED
    uid: int = 0


class SockDiag(NetlinkSocket):
    """A netlink socket to sock_diag of the network namespace it is opened in."""

    def __init__(self) -> None:
        super().__init__(NETLINK_SOCK_DIAG)

    def connected(
        self, protocol: int = socket.IPPROTO_TCP, *, local_port: int = 0, remote_port: int = 0
    ) -> Iterator[Socket]:
        """The sockets that are connected; a port of 0 is any. Raises ``OSError``."""
        return self.sockets(protocol, [ESTABLISHED], local_port=local_port, remote_port=remote_port)

    def sockets(
        self,
        protocol: int,
        states: Iterable[int],
        *,
        local_port: int = 0,
        remote_port: int = 0,
    ) -> Iterator[Socket]:
        """The sockets in one of some states likewise."""
        wanted = sum(1 << state for state in states)
        for number in FAMILIES:
            identity = _IDENTITY.pack(
                local_port.to_bytes(2, "big"),
                remote_port.to_bytes(2, "big"),
                bytes(16),
                bytes(16),
                0,
                b"\xff" * 8,
            )
            request = _REQUEST.pack(number, protocol, 0, wanted) + identity
            for answer in self._dump(_SOCK_DIAG_BY_FAMILY, request):
                found = _socket(answer, protocol)
                # A kernel need not look at the ports that it is asked for.
                if local_port not in (0, found.local_port):
                    continue
                if remote_port in (0, found.remote_port):
                    yield found


def _socket(answer: bytes, protocol: int) -> Socket:
    fields = _ANSWER.unpack_from(answer)
    family = FAMILIES[fields[0]]
    local_port, remote_port = (int.from_bytes(port, "big") for port in fields[4:6])
    size = family.bits // 8
    local, remote = (int.from_bytes(address[:size], "big") for address in fields[6:8])
    if family is Family.IPV6 and is_mapped(local) and is_mapped(remote):
        family, local, remote = Family.IPV4, local & 0xFFFFFFFF, remote & 0xFFFFFFFF
    group = dict(attributes(answer, _ANSWER.size)).get(_CGROUP_ID, b"")
    return Socket(
        family,
        protocol,
        local,
        local_port,
        remote,
        remote_port,
        fields[8],
        fields[-1],
        int.from_bytes(group, sys.byteorder),
        fields[1],
        fields[-2],
    )
