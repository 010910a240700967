"""Owns who has the table, and whether anybody else can have changed it since our last transaction.

Nobody changes a table that is owned but its owner. So it is as an earlier process left it where

* that process left us its socket, which owns the table still; or
* no transaction at all was carried out in this network namespace since: each has a number, of which
  the last is kept in a file. That this holds until the table is ours again, the kernel sees to, as
  it takes the transaction that owns the table only with that number.

Invariants:

1. What the set of contents says (``contents.py``) is so as long as the table is owned: the very
   transaction that owns a table which others may have changed empties that set.
2. A number is kept only while the table is owned.
"""

from __future__ import annotations

import errno
from contextlib import suppress

from ipsecd.backend.base import TransactionRecord
from ipsecd.backend.nftables import contents
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.naming import TABLE
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.wire import KernelError, NftSocket


class Ownership:
    """Makes the table ours, where the kernel knows owners of tables."""

    def __init__(
        self,
        socket: NftSocket,
        reader: TableReader,
        record: TransactionRecord | None,
        *,
        is_known: bool,
    ) -> None:
        """`is_known` says that the kernel knows owners; `record` is that of an earlier process."""
        self._socket = socket
        self._reader = reader
        self._record = record if is_known else None
        self.flags = nft.TABLE_OWNER | nft.TABLE_PERSIST if is_known else 0
        self._is_owner = is_known and reader.owner() == socket.port
        self._noted: int | None = None

    def take(self) -> None:
        """Own the table, which is created if there is none; raises ``KernelError``."""
        own = nft.new_table(TABLE, self.flags)
        if self._is_owner or self._take_unchanged():
            self._socket.commit([own])
        else:
            self._socket.commit([own, *contents.creation()])
        self._is_owner = bool(self.flags)

    def _take_unchanged(self) -> bool:
        """Own the table if it is as an earlier process left it, and say whether it is."""
        last = self._record.read() if self._record else None
        if last is None or last[0] != self._socket.namespace():
            return False
        try:
            self._socket.commit([nft.new_table(TABLE, self.flags)], generation=last[1])
        except KernelError as error:
            if error.errno != errno.ERESTART:
                raise
            return False
        return True

    def lose(self) -> None:
        """The table has been deleted."""
        self._is_owner = False

    def note(self) -> None:
        """Keep the number of the last transaction: it was ours, or about another table."""
        if self._record is None or not self._is_owner:
            return
        with suppress(KernelError):
            generation = self._reader.generation()
            if generation != self._noted:
                self._record.write(self._socket.namespace(), generation)
                self._noted = generation
