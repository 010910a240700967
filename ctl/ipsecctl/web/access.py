"""Owns who may look: what a request must carry, and which process may connect to a Unix socket.

Loopback TCP is open to every user of this host, and to every page that a browser on it shows. So:

1. A request names this server in ``Host``, as a name that an attacker made point here does not.
2. It does not come from another site, nor from another port of this host, which is another site
   for us and the same one for cookies.
3. Over TCP it carries a cookie, which whoever shows the token gets. Cookies are sent to all ports
   of a host; this one is for a path that nobody else knows, and so is sent here only.
4. Over a Unix socket the peer is root or in one of the daemon's groups, as for the daemon itself.
"""

from __future__ import annotations

import grp
import hmac
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Protocol

from ipsecctl.web.request import BadRequest, Request
from ipsecctl.web.response import Response, plain

GROUPS = ("ipsec", "ipsec-view")
COOKIE = "ipsecctl-web"
SO_PEERGROUPS = 59  # asm-generic/socket.h, since Linux 4.13
_MOST_GROUPS_BYTES = 1024
"""What ``socket.getsockopt`` takes: 256 groups. Who is in more is refused."""
_OURS = frozenset({"", "same-origin", "none"})
"""Where a request may come from (Fetch Metadata); "" is a program that does not say."""


class Gate(Protocol):
    """Decides about a request, and says below which path the pages are."""

    @property
    def base(self) -> str:
        """The path of the pages, with a slash at both ends."""

    def answer(self, request: Request) -> Response | None:
        """The answer to who may not see pages yet, None to who may; raises ``BadRequest``."""


@dataclass(frozen=True, slots=True)
class SocketGate:
    """For a Unix socket, whose peers were checked: by a proxy, or by a program on this host."""

    base: str = "/"

    def answer(self, request: Request) -> Response | None:
        """Refuse what comes from another site; a proxy may have any name."""
        host = request.headers.get("host", "")
        _refuse_strangers(request, (f"http://{host}", f"https://{host}"))
        return None


@dataclass(frozen=True, slots=True)
class TokenGate:
    """For a port of loopback; `authorities` are what a browser may call it."""

    authorities: tuple[str, ...]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    base: str = field(default_factory=lambda: f"/{secrets.token_hex(16)}/", repr=False)

    @property
    def url(self) -> str:
        """What lets whoever opens it look."""
        return f"http://{self.authorities[0]}/?token={self.token}"

    def answer(self, request: Request) -> Response | None:
        """Give the cookie for the token, and refuse who has neither."""
        if request.headers.get("host", "").lower() not in self.authorities:
            raise BadRequest(421, "this server has another name; open the address it has printed")
        _refuse_strangers(request, tuple(f"http://{name}" for name in self.authorities))
        if request.path == "/" and _same(request.query.get("token", ""), self.token):
            cookie = f"{COOKIE}={self._session}; Path={self.base}; HttpOnly; SameSite=Strict"
            return plain(303, "", Location=self.base, Set_Cookie=cookie)
        if not _same(request.cookie(COOKIE), self._session):
            raise BadRequest(
                403, "open the address that 'ipsecctl web' has printed: it has a token in it"
            )
        return None


def peer_may_look(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket is root or in one of the groups.

    Sources: unix(7) for SO_PEERCRED, net/core/sock.c for SO_PEERGROUPS.
    """
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    _, uid, gid = struct.unpack("iII", packed)
    if uid == 0:
        return True
    try:
        groups = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, _MOST_GROUPS_BYTES)
    except OSError:
        return False
    gids = {gid, *struct.unpack(f"{len(groups) // 4}I", groups)}
    return any(_group_id(name) in gids for name in GROUPS)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _refuse_strangers(request: Request, origins: tuple[str, ...]) -> None:
    site = request.headers.get("sec-fetch-site", "")
    origin = request.headers.get("origin", "")
    if site not in _OURS or (origin and origin.lower() not in origins):
        raise BadRequest(403, "this request comes from another site; type the address instead")


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())
