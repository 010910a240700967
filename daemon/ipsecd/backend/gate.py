"""Owns the gate of XDP: an interface passes nothing before its packets meet a program.

A program can only be attached to an interface that exists, so there are packets before it: for
some milliseconds, or for as long as the daemon is not running. While anything is blocked they
are dropped where nftables sees every interface, the loopback interface excepted. Invariants:

1. An interface is let through only after its programs are attached.
2. The gate outlives the daemon, as the programs do.
"""

from __future__ import annotations

import errno

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.backend import can_protect
from ipsecd.backend.nftables.elements import add_elements, delete_elements, element
from ipsecd.backend.nftables.failures import failure
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.render import LOOPBACK_INDEX
from ipsecd.backend.nftables.wire import KernelError, Message, NftSocket

TABLE = "ipsecd_gate"
COVERED = "covered"
DROPPED = "dropped"

_HOOKS = {
    "arriving": ("prerouting", -302, ex.META_IIF),
    "leaving": ("postrouting", 102, ex.META_OIF),
}
_IFACE_INDEX = 20
"""nft's number of the data type (TYPE_IFINDEX)."""
_ROOM = 1 << 16
_FLAGS = nft.TABLE_OWNER | nft.TABLE_PERSIST


class Gate:
    """One table, with the set of the interfaces that are let through."""

    def __init__(self) -> None:
        """Raises ``BackendFailed`` where the kernel has no nf_tables."""
        self._socket = NftSocket()
        self._reader = TableReader(self._socket, TABLE)
        try:
            self._flags = _FLAGS if can_protect(self._socket) else 0
        except KernelError as error:
            raise failure(error) from error
        self._covered: frozenset[int] | None = None
        self._fingerprint = ""

    def close_but_for(self, covered: frozenset[int]) -> None:
        """Let through only the interfaces `covered`, by index. Raises ``BackendFailed``."""
        if covered == self._covered:
            return
        try:
            if self._covered is None:
                self._put(covered)
            else:
                self._socket.commit(_difference(self._covered, covered))
        except KernelError as error:
            self._covered = None
            raise failure(error) from error
        self._covered = covered
        self._fingerprint = self._reader.fingerprint()

    def drift(self) -> tuple[str, ...]:
        """One sentence if somebody else changed the table; the next call puts it right."""
        if self._covered is None:
            return ()
        keys = {key for key, _ in self._reader.elements(COVERED)}
        wanted = {ex.host32(index) for index in self._covered}
        if keys == wanted and self._reader.fingerprint() == self._fingerprint:
            return ()
        self._covered = None
        return (f"table inet {TABLE} was changed",)

    def remove(self) -> None:
        """Let everything through."""
        self._covered = None
        if not self._reader.exists():
            return
        try:
            self._own()
            self._socket.commit([nft.delete_table(TABLE)])
        except KernelError as error:
            raise failure(error) from error

    def close(self) -> None:
        """Let go of the table and leave it."""
        self._socket.close()

    def _put(self, covered: frozenset[int]) -> None:
        """Put a new table in the place of what is there, in one transaction."""
        steps = []
        if self._reader.exists():
            self._own()
            steps.append(nft.delete_table(TABLE))
        size = len(ex.host32(0))
        steps += [
            nft.new_table(TABLE, self._flags),
            nft.new_set(TABLE, COVERED, (_IFACE_INDEX,), size, _ROOM, 0),
            nft.new_counter(TABLE, DROPPED, "before a program was attached"),
            *_difference(frozenset(), covered),
        ]
        for chain, (hook, priority, key) in _HOOKS.items():
            loopback = ex.compare(ex.EQ, ex.host32(LOOPBACK_INDEX))
            passes = ex.verdict(nft.ACCEPT)
            steps += [
                nft.new_chain(TABLE, chain, hook, priority),
                nft.new_rule(TABLE, chain, ex.meta(key) + loopback + passes, ""),
                nft.new_rule(TABLE, chain, ex.meta(key) + ex.in_set(COVERED) + passes, ""),
                nft.new_rule(TABLE, chain, ex.counted_by(DROPPED) + ex.verdict(nft.DROP), ""),
            ]
        self._socket.commit(steps)

    def _own(self) -> None:
        """Own what an earlier process left; a table without an owner stays without."""
        try:
            self._socket.commit([nft.new_table(TABLE, self._flags)])
        except KernelError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise


def _difference(old: frozenset[int], new: frozenset[int]) -> list[Message]:
    gone = b"".join(element(ex.host32(index)) for index in sorted(old - new))
    come = b"".join(element(ex.host32(index)) for index in sorted(new - old))
    steps = [delete_elements(TABLE, COVERED, gone)] if gone else []
    return steps + ([add_elements(TABLE, COVERED, come)] if come else [])
