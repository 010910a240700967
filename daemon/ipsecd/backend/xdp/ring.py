"""Owns reading a ring buffer of the kernel as memory; must not know what its records mean.

The protocol is that of Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c: two positions that
only grow, the reader's and the writers', and data that is mapped twice in a row, so that no record
is in two parts. A record begins with its length, of which one bit says that it is being written.

Reading it as memory takes one copy for many records. libbpf calls a function for each, and each of
these calls waits for the interpreter, which another thread may hold.
"""

from __future__ import annotations

import mmap
import os
import threading

_BUSY, _LENGTH = 1 << 31, (1 << 30) - 1
HEADER_BYTES = 8


class Ring:
    """The reading end of one ring; one thread at a time uses it."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map the ring of `size` bytes, whose descriptor stays the caller's. Raises ``OSError``."""
        page = mmap.PAGESIZE
        self._descriptor = os.dup(descriptor)
        try:
            self._own = mmap.mmap(descriptor, page, mmap.MAP_SHARED)
            self._theirs = mmap.mmap(
                descriptor, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except BaseException:
            os.close(self._descriptor)
            raise
        # Each is read and written in one piece, as an object of eight bytes.
        self._read = memoryview(self._own)[:8].cast("Q")
        self._written = memoryview(self._theirs)[:8].cast("Q")
        self._data = memoryview(self._theirs)[page:]
        self._headers = self._data.cast("I")
        self._mask = size - 1
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """A descriptor that is readable when there are records."""
        return self._descriptor

    def take(self, most: int) -> bytes:
        """The oldest records, `most` at most, as they lie in the ring: each behind its header."""
        start = at = self._read[0]
        end = self._written[0]
        while at < end and most > 0:
            header = self._headers[(at & self._mask) >> 2]
            if header & _BUSY:
                break
            at += ((header & _LENGTH) + HEADER_BYTES + 7) & -8
            most -= 1
        if at == start:
            return b""
        first = start & self._mask
        self._keep_order()
        records = bytes(self._data[first : first + at - start])
        self._keep_order()
        self._read[0] = at
        return records

    def holds_any(self) -> bool:
        """Whether there are records that were not taken, complete or not."""
        return self._read[0] != self._written[0]

    def _keep_order(self) -> None:
        """Have all that was read before be read before all that follows.

        Some processors read data before the header by which it is complete, or write before they
        have read. To release a lock and then take one is a barrier on all of them.
        """
        with self._lock:
            pass
        with self._lock:
            pass

    def close(self) -> None:
        """Let go of the ring."""
        for view in (self._read, self._written, self._headers, self._data):
            view.release()
        self._own.close()
        self._theirs.close()
        os.close(self._descriptor)
