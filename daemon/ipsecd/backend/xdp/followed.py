"""Owns the maps by which one set of programs tells what it drops; must not know what it tells."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.ring import Ring

_LIMIT, _TOLD = range(2)


class Followed:
    """One set of maps, with what of it the daemon reads and writes as memory."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        self.ring = Ring(maps["reports"], abi.REPORT_RING_BYTES)
        try:
            self._drops = os.dup(maps["drops"])
            self._memory = libbpf.map_memory(maps["reporting"], abi.REPORTING.size)
        except BaseException:
            self.ring.close()
            raise
        # Each is read and written in one piece.
        self._words = memoryview(self._memory)[: abi.REPORTING.size].cast("Q")
        self._before = self._total()

    def begin(self, allowed: int) -> None:
        """Count from now on, and let so many be told."""
        self._before = self._total()
        self.allow(self._words[_TOLD] + allowed)

    def allow(self, limit: int) -> None:
        """Let be told until `limit` were, from the first on; 0 for none, nor counted."""
        self._words[_LIMIT] = limit

    def add(self, more: int, most: int) -> bool:
        """Let `more` be told than now, but not more than `most` from now on; whether that is so."""
        told = self._words[_TOLD]
        left = max(0, self._words[_LIMIT] - told)
        self.allow(told + min(left + more, most))
        return left + more >= most

    def dropped(self) -> int:
        """How many frames were dropped, and how many audits have counted, since it began."""
        return self._total() - self._before

    def _total(self) -> int:
        cpus = libbpf.possible_cpus()
        values = libbpf.look_up(self._drops, struct.pack("=I", 0), 8 * cpus) or bytes(8 * cpus)
        return sum(struct.unpack(f"={cpus}Q", values))

    def close(self) -> None:
        """Let go of the maps, as they are."""
        self.ring.close()
        self._words.release()
        self._memory.close()
        os.close(self._drops)
