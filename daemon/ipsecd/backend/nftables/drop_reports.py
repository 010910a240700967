"""Owns telling of what the table drops: switched on and off, read, and counted.

It must not know how rules are written: who made it writes them anew when it asks for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.features import can_log
from ipsecd.backend.nftables.log_socket import LogSocket
from ipsecd.backend.nftables.naming import DROPPED, TABLE
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.told import Told
from ipsecd.backend.nftables.wire import Message, NftSocket
from ipsecd.backend.reporting import Report
from ipsecd.errors import BackendFailed, LimitExceeded, Refused

NO_MONITOR = "ipsecctl monitor cannot show what nftables drops"

LOOK_S, LONG_S = 0.3, 5.0
"""The least time over which drops a second are taken, and the longest that says anything."""
SHARE = 20
"""Writing the rules for another number takes at most one part in so many of the time: who sends a
flood now and then would keep others waiting who change something."""


class DropReports:
    """What tells of packets that the rules of the table drop."""

    def __init__(
        self, socket: NftSocket, reader: TableReader, write_rules: Callable[[], None]
    ) -> None:
        """`write_rules` has the rules written anew, as ``told`` says, with all else as it is."""
        self._socket = socket
        self._reader = reader
        self._write_rules = write_rules
        self._log: LogSocket | None = None
        self._budget = 0
        self._before = self._counted = 0
        self._one_in = 1
        self._can_choose = True
        self._last_look = 0.0, 0
        self._rest_until = 0.0

    @property
    def told(self) -> Told | None:
        """How rules tell of what they drop; None if they do not."""
        if not self._log or not self._budget:
            return None
        return Told(self._log.group, self._budget, self._one_in)

    @property
    def counters(self) -> set[str]:
        """The counters that the rules need."""
        return {DROPPED} if self._budget else set()

    def lacking(self) -> tuple[str, ...]:
        """What the kernel lacks for it, a sentence for each; asked in the kernel's line."""
        lacking = []
        if not can_log(self._socket):
            lacking.append(f"{NO_MONITOR}: this kernel has no nft_log or no nft_limit")
        if self._log is None:
            try:
                LogSocket().close()
            except Refused as refusal:
                lacking.append(f"{NO_MONITOR}: {refusal.message} (nfnetlink_log)")
        return tuple(lacking)

    def counter(self) -> tuple[list[Message], list[Message]]:
        """What has to be done before the rules are written, and after it: that counter is made.

        One that is not needed any more is deleted.
        """
        if self._budget:
            return [nft.new_counter(TABLE, DROPPED, "dropped while somebody is told")], []
        is_left = self._log and self._reader.counter(DROPPED) is not None
        return [], [nft.delete_counter(TABLE, DROPPED)] if is_left else []

    def set_budget(self, packets_per_second: int) -> None:
        """Have the rules tell of so many packets a second at most; 0: of none.

        Raises ``Refused`` where the kernel cannot do it.
        """
        if packets_per_second == self._budget:
            return
        if not packets_per_second:
            self._budget = self._before = self._counted = 0
            self._one_in = 1
            try:
                self._write_rules()
            finally:
                self.close()
            return
        if self._log is None:
            self._log = LogSocket()
        if not self._budget:
            # What a killed process has left, or could not be deleted, has counted for others.
            self._counted = self._count()
            self._before = -self._counted
        before, self._budget = self._budget, packets_per_second
        try:
            self._write_rules()
        except (BackendFailed, LimitExceeded) as error:
            self._budget = before
            if not before:
                self.close()
            raise Refused(
                f"the rules cannot tell of what they drop: {error.message}",
                "it needs nft_log: try modprobe nft_log; ipsecctl doctor says more",
            ) from error

    def close(self) -> None:
        """Listen no more."""
        if self._log:
            self._log.close()
            self._log = None

    def descriptors(self) -> tuple[int, ...]:
        """The socket on which the kernel tells of packets."""
        log = self._log
        descriptor = log.fileno() if log else -1
        return (descriptor,) if descriptor >= 0 else ()

    def read(self, most: int) -> list[Report]:
        """What the kernel has told of."""
        log = self._log
        return log.read(most) if log else []

    def blocked(self) -> int:
        """How many packets the table has dropped since it tells of them.

        Where somebody has deleted the table with its counter, what it had counted since it was
        last read is not known.
        """
        counted = self._count()
        if counted < self._counted:
            self._before += self._counted
        self._counted = counted
        self._suit(self._before + counted)
        return self._before + counted

    def _count(self) -> int:
        """What the counter in the table holds; 0 if there is none."""
        count = self._reader.counter(DROPPED)
        return count.packets if count else 0

    def _suit(self, total: int) -> None:
        """Have the rules suit the number of drops a second, of which there were `total` so far."""
        now = time.monotonic()
        then, before = self._last_look
        if now - then < LOOK_S or not (told := self.told):
            return
        self._last_look = now, total
        # After a break, or a new beginning, there is nothing to compare with.
        suited = told.suited((total - before) / (now - then)) if now - then < LONG_S else told
        if suited.one_in != self._one_in and self._can_choose and now >= self._rest_until:
            old, self._one_in = self._one_in, suited.one_in
            try:
                self._write_rules()
            except (BackendFailed, LimitExceeded):
                # A kernel without nft_numgen looks at the clock for each packet.
                self._one_in, self._can_choose = old, False
            done = time.monotonic()
            self._rest_until = done + (done - now) * SHARE
