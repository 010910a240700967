"""Owns the thread that listens to the doorbell; must not know what a ring leads to.

1. A member that is lost is followed by the next one; without any, hosts look in intervals.
2. Only the last ring is kept.
3. A member that is cut off from the others tells nothing and looks alive: so each watch ends after
   a time without rings, and goes on only where a member has a majority behind it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextlib import closing

from ipsecd.errors import IpsecdError
from ipsecd.log import record, record_bug
from ipsecd_domain.doorbell import Doorbell, Ring, read_ring
from ipsecd_domain.etcd import Member
from ipsecd_domain.fetcher.schedule import Backoff
from ipsecd_domain.fetcher.wake import now
from ipsecd_domain.tls import TlsFiles

QUIET_S, QUIET_MORE_S = 200.0, 80.0
"""How long a watch goes on without a ring, and how much chance adds: together less than the 300 s
after which etcd forgets a token that nobody uses, and logging in again is costly for it."""
LOST_FIRST_S, LOST_MOST_S = 1.0, 120.0
STABLE_S = 30.0
"""A member that was listened to for so long counts as well, and pauses begin anew after it."""


class Bell:
    """Calls `tell` whenever the doorbell is rung, until it is retired; ``latest`` is the ring."""

    def __init__(self, doorbell: Doorbell, tls: TlsFiles, tell: Callable[[], None]) -> None:
        self.latest: Ring | None = None
        self._doorbell = doorbell
        self._tls = tls
        self._tell = tell
        self._retired = threading.Event()
        self._pauses = Backoff(LOST_FIRST_S, LOST_MOST_S, random.random)
        self._said = ""
        threading.Thread(target=self._run, name="doorbell", daemon=True).start()

    def retire(self) -> None:
        """Tell nothing any more, and end soon."""
        self._retired.set()

    def _run(self) -> None:
        while not self._retired.is_set():
            try:
                # Each host has an order of its own, so that each member has its share of them.
                members = list(self._doorbell.open_members(self._tls))
                random.shuffle(members)
                for member in members:
                    self._listen_as_long_as_it_works(member)
            except IpsecdError as error:
                self._lost(error)
            except Exception as error:
                record_bug("doorbell-failed", error)
                self._retired.wait(LOST_MOST_S)

    def _listen_as_long_as_it_works(self, member: Member) -> None:
        started = now()
        try:
            with closing(member):
                while not self._retired.is_set():
                    self._listen(member)
        except IpsecdError as error:
            if now() - started > STABLE_S:
                self._pauses.reset()
            self._lost(error)

    def _listen(self, member: Member) -> None:
        """Hear what the key has, and then of each change until nothing came for a time."""
        value, revision = member.get(self._doorbell.key)
        self._heard(member)
        self._ring(value)
        quiet_s = QUIET_S + QUIET_MORE_S * random.random()  # noqa: S311 - nothing is secret
        for changed in member.watch(self._doorbell.key, revision + 1, quiet_s):
            if self._retired.is_set():
                return
            self._ring(changed)

    def _ring(self, value: bytes | None) -> None:
        ring = read_ring(value) if value is not None else None
        if ring is not None and ring != self.latest:
            self.latest = ring
            self._tell()

    def _heard(self, member: Member) -> None:
        if self._said != member.name:
            record(logging.INFO, "doorbell-watched", member=member.name)
        self._said = member.name

    def _lost(self, error: IpsecdError) -> None:
        if self._said != error.message:
            record(logging.WARNING, "doorbell-lost", reason=error.message, hint=error.hint or None)
        self._said = error.message
        self._retired.wait(self._pauses.next_s())
