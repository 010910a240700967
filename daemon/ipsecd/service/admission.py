"""Owns accepting connections: whose, and how many at once; must not know calls or the engine.

For each new connection it is asked first whether there is room, then whose it is, and then whether
that user is admitted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ipsecd.config import Limits
from ipsecd.errors import LimitExceeded
from ipsecd.log import record, record_bug
from ipsecd.protocol.errors import to_wire
from ipsecd.protocol.frames import encode_frame
from ipsecd.service.access import (
    Peer,
    credentials,
    group_id,
    is_admitted,
    user_id,
    with_account,
)
from ipsecd.service.connections import (
    Answer,
    Connection,
    ConnectionLimits,
    Follow,
    UnsentBytes,
    no_more,
)

IDENTIFY_TIMEOUT_S = 5.0
ACCEPTS_AT_ONCE = 64
PAUSE_S = 0.5
STRANGER_S = 1.0
"""How long a user who was not admitted is refused without being looked up again."""
SILENCE_S = 5.0
MAX_STRANGERS = 1024

# Errors of accept(2) that pass by themselves: the listening socket itself is in order.
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Service:
    """Accepts clients from a listening, non-blocking socket and serves each in a task."""

    def __init__(
        self,
        listener: socket.socket,
        answer: Answer,
        limits: Limits | None = None,
        *,
        write_timeout_s: float = 30.0,
        follow: Follow = no_more,
        gid_of: Callable[[str], int | None] = group_id,
        uid_of: Callable[[str], int | None] = user_id,
    ) -> None:
        """`gid_of` looks a group up by its name and `uid_of` a user.

        They run in a thread, so they may take long.
        """
        self._listener = listener
        self._answer = answer
        self._limits = limits or Limits()
        self._bounds = ConnectionLimits(
            self._limits.frame_bytes, self._limits.idle_timeout_s, write_timeout_s
        )
        self._follow = follow
        self._gid_of = gid_of
        self._uid_of = uid_of
        self._accounts = ThreadPoolExecutor(2, "accounts")
        self._unsent = UnsentBytes()
        self._clients: dict[asyncio.Task[None], tuple[int, socket.socket]] = {}
        self._connections_by_uid: Counter[int] = Counter()
        self._admitted_by_uid: Counter[int] = Counter()
        self._resume: asyncio.TimerHandle | None = None
        self._strangers: dict[tuple[int, frozenset[int]], float] = {}
        self._refusals: dict[int, tuple[float, int]] = {}

    def start(self) -> None:
        """Accept connections from now on, in the running event loop."""
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Accept no more connections and end those there are; the listening socket stays open."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._resume is not None:
            self._resume.cancel()
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._accounts.shutdown(wait=False, cancel_futures=True)

    def _accept(self) -> None:
        """Accept a batch of connections; more are accepted in the event loop's next turn."""
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            sock.setblocking(False)
            try:
                peer = credentials(sock)
            except OSError as error:
                record(logging.WARNING, "peer-unknown", reason=error.strerror)
                sock.close()
                continue
            self._take_in(sock, peer)

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment: the socket stays readable, and asking again would spin."""
        level = logging.WARNING if error.errno in _OUT_OF_RESOURCES else logging.ERROR
        record(level, "accept-failed", reason=error.strerror, connections=len(self._clients))
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._resume = loop.call_later(PAUSE_S, self.start)

    def _take_in(self, sock: socket.socket, peer: Peer) -> None:
        if self._strangers.get((peer.uid, peer.gids), 0.0) > time.monotonic():
            self._record_refusal(peer, "not authorised")
            sock.close()
            return
        refusal = self._no_room(peer)
        if refusal is not None:
            self._record_refusal(peer, refusal.message)
            if peer.uid == 0 or self._admitted_by_uid[peer.uid]:
                _send_at_once(sock, encode_frame(to_wire(refusal)))
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(sock, peer))
        self._clients[task] = peer.uid, sock
        self._connections_by_uid[peer.uid] += 1
        task.add_done_callback(self._forget)

    def _no_room(self, peer: Peer) -> LimitExceeded | None:
        """Why there is no room for `peer`, or None. There is always room for root."""
        per_user = self._limits.connections_per_user
        if self._connections_by_uid[peer.uid] >= per_user:
            return LimitExceeded(
                f"uid {peer.uid} has {per_user} connections already",
                "close some, or raise limits: connections-per-user in the configuration",
            )
        if peer.uid != 0 and len(self._clients) >= self._limits.connections:
            return LimitExceeded(
                f"there are {self._limits.connections} connections already",
                "try again later, or raise limits: connections in the configuration",
            )
        return None

    async def _serve(self, sock: socket.socket, peer: Peer) -> None:
        peer = await self._identify(peer)
        if not is_admitted(peer):
            self._record_refusal(peer, "not authorised")
            if len(self._strangers) >= MAX_STRANGERS:
                self._strangers.clear()
            self._strangers[peer.uid, peer.gids] = time.monotonic() + STRANGER_S
            return
        self._admitted_by_uid[peer.uid] += 1
        try:
            await Connection(
                sock, peer, self._bounds, self._unsent, self._answer, self._follow
            ).serve()
        finally:
            self._admitted_by_uid[peer.uid] -= 1

    def _record_refusal(self, peer: Peer, reason: str) -> None:
        """Log a refusal; of one user only the first in a while, with how many were not logged."""
        now = time.monotonic()
        silent_until, not_logged = self._refusals.get(peer.uid, (0.0, 0))
        if now < silent_until:
            self._refusals[peer.uid] = silent_until, not_logged + 1
            return
        if len(self._refusals) >= MAX_STRANGERS:
            self._refusals.clear()
        self._refusals[peer.uid] = now + SILENCE_S, 0
        record(
            logging.WARNING,
            "connection-refused",
            peer=peer,
            reason=reason,
            not_logged=not_logged or None,
        )

    async def _identify(self, peer: Peer) -> Peer:
        """`peer` with its user name and groups; if the look-up takes too long, it is in no group.

        Root needs no look-up, and so gets in when the directory server is down.
        """
        if peer.uid == 0:
            return Peer(peer.pid, 0, peer.gids, user="root")
        future = asyncio.wrap_future(
            self._accounts.submit(with_account, peer, self._gid_of, self._uid_of)
        )
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT_S):
                return await future
        except (TimeoutError, OSError) as error:
            record(logging.WARNING, "look-up-failed", uid=peer.uid, reason=repr(error))
            return peer

    def _forget(self, task: asyncio.Task[None]) -> None:
        uid, sock = self._clients.pop(task)
        sock.close()
        self._connections_by_uid[uid] -= 1
        for counter in (self._connections_by_uid, self._admitted_by_uid):
            if not counter[uid]:
                del counter[uid]
        if not task.cancelled() and (error := task.exception()) is not None:
            record_bug("bug", error, uid=uid)


def _send_at_once(sock: socket.socket, frame: bytes) -> None:
    """Send what fits into the empty socket buffer, without waiting for a refused client."""
    try:
        sock.send(frame, socket.MSG_NOSIGNAL)
    except OSError as error:
        record(logging.DEBUG, "connection-lost", reason=error.strerror)
