"""Owns who may call which method; of sockets it must know only how the kernel names a peer.

Root and the group ``ipsec`` may change things, and the group ``ipsec-view`` may read. The user
``ipsecd-domain`` hands over what it fetched of the domain and looks DNS names up, and does nothing
else. Nobody else gets an answer.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from ipsecd.control import METHODS
from ipsecd.control.method import Role
from ipsecd.host.processes import command_of, login_uid_of
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface

CHANGE_GROUP = "ipsec"
VIEW_GROUP = "ipsec-view"
FETCHER = "ipsecd-domain"
"""The user that looks at the domain, and DNS names up."""

ROLES: dict[str, Role] = {
    **{f"{CONTROL}.{method.name}": method.role for method in METHODS.values()},
    **dict.fromkeys((f"{SERVICE}.{name}" for name in load_interface(SERVICE).methods), Role.VIEW),
}
"""What each method takes, by its full name."""
OF_FETCHER = frozenset(
    f"{CONTROL}.{method.name}" for method in METHODS.values() if method.for_fetcher
)
"""What the fetcher may call, whatever groups it is in."""

SO_PEERGROUPS = 59  # asm-generic/socket.h, since Linux 4.13

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint32),
)
_libc.getsockopt.restype = ctypes.c_int


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel knew it when it connected.

    ``groups`` says which of the daemon's two groups the peer is in; ``user`` is the name of
    ``uid``, for logs only. ``is_fetcher`` says whether it is the user ``ipsecd-domain``.
    """

    pid: int
    uid: int
    gids: frozenset[int]
    groups: frozenset[str] = field(default_factory=frozenset)
    user: str = ""
    is_fetcher: bool = False
    _process: list[tuple[int | None, str]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def process(self) -> tuple[int | None, str]:
        """Who had logged in when its process began, None if nobody had, and the process's name.

        The kernel is asked when it is first wanted: a program that bans asks for thousands of
        changes by one connection.
        """
        if not self._process:
            self._process.append((login_uid_of(self.pid), command_of(self.pid)))
        return self._process[0]

    def __str__(self) -> str:
        name = f" ({self.user})" if self.user else ""
        return f"uid {self.uid}{name} pid {self.pid}"


def may_call(peer: Peer, method: str) -> bool:
    """Whether `peer` may call `method`, a full name; nobody may call what is not in ``ROLES``."""
    role = ROLES.get(method)
    if peer.uid == 0:
        return role is not None
    if peer.is_fetcher:
        return method in OF_FETCHER
    if role is Role.CHANGE:
        return CHANGE_GROUP in peer.groups
    return role is Role.VIEW and is_admitted(peer)


def is_admitted(peer: Peer) -> bool:
    """Whether `peer` gets any answer at all."""
    is_member = not peer.groups.isdisjoint({CHANGE_GROUP, VIEW_GROUP})
    return peer.uid == 0 or peer.is_fetcher or is_member


def sees_secrets(peer: Peer) -> bool:
    """Whether `peer` gets passwords and what vouches for the domain."""
    return peer.uid == 0 or peer.is_fetcher


def credentials(connection: socket.socket) -> Peer:
    """The peer of `connection` in numbers, without any look-up; raises ``OSError``.

    Sources: unix(7) for SO_PEERCRED, net/core/sock.c for SO_PEERGROUPS.
    """
    size = struct.calcsize("iII")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, gid = struct.unpack("iII", packed)
    return Peer(pid, uid, frozenset({gid}) | _supplementary_groups(connection))


def with_account(
    peer: Peer, gid_of: Callable[[str], int | None], uid_of: Callable[[str], int | None]
) -> Peer:
    """`peer` with its name and groups looked up, which may wait for a directory server."""
    groups = frozenset(group for group in (CHANGE_GROUP, VIEW_GROUP) if gid_of(group) in peer.gids)
    is_fetcher = uid_of(FETCHER) == peer.uid
    return Peer(peer.pid, peer.uid, peer.gids, groups, _user_name(peer.uid), is_fetcher)


def group_id(name: str) -> int | None:
    """The number of the group `name`, or None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def user_id(name: str) -> int | None:
    """The number of the user `name`, or None where there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    if uid == 0:
        return "root"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _supplementary_groups(connection: socket.socket) -> frozenset[int]:
    """SO_PEERGROUPS; not by ``socket.getsockopt``, which stops at 1,024 bytes, or 256 groups."""
    count = 256
    while True:
        buffer = (ctypes.c_uint32 * count)()
        length = ctypes.c_uint32(ctypes.sizeof(buffer))
        result = _libc.getsockopt(
            connection.fileno(), socket.SOL_SOCKET, SO_PEERGROUPS, buffer, ctypes.byref(length)
        )
        if result == 0:
            return frozenset(buffer[: length.value // 4])
        code = ctypes.get_errno()
        if code != errno.ERANGE or length.value // 4 <= count:
            raise OSError(code, os.strerror(code))
        count = length.value // 4
