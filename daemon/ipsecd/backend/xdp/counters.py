"""Owns the counters in the maps: those of rules, and those of frames that cannot be read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ipsecd.backend.base import Count
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.origins import read_origins
from ipsecd.model.values import Origin


class Counters:
    """The counters of rules by number, and of frames by what was wrong with them."""

    def __init__(self, rules: int, parsing: int) -> None:
        """Take the descriptors of the two maps, which stay the caller's."""
        self._rules, self._parsing = rules, parsing
        self._cpus = libbpf.possible_cpus()

    def of_rule(self, number: int) -> Count:
        """What the rule with a number has matched."""
        values = struct.unpack(f"={2 * self._cpus}Q", self._per_cpu(self._rules, number, 16))
        return Count(sum(values[0::2]), sum(values[1::2]))

    def set_rule(self, number: int, count: Count) -> None:
        """Go on counting from `count`."""
        first = abi.COUNT.pack(*count)
        value = first + bytes(len(first) * (self._cpus - 1))
        libbpf.update(self._rules, struct.pack("=I", number), value)

    def parse_results(self) -> dict[str, int]:
        """How many frames could not be read as packets, by what was wrong with them."""
        return {
            name: sum(struct.unpack(f"={self._cpus}Q", self._per_cpu(self._parsing, number, 8)))
            for number, name in enumerate(abi.PARSE_RESULTS)
            if number
        }

    def _per_cpu(self, descriptor: int, number: int, size: int) -> bytes:
        value = libbpf.look_up(descriptor, struct.pack("=I", number), size * self._cpus)
        return value or bytes(size * self._cpus)


def pinned_state(directory: Path) -> tuple[str | None, dict[Origin, Count]]:
    """The digest and the counts of rules in maps that an earlier process pinned.

    Nothing is taken from maps of another layout. Raises ``OSError``.
    """
    maps = {}
    try:
        for name in ("state", "shortcuts", "counters", "origins", "parsing"):
            maps[name] = libbpf.get_pinned(directory / name)
        if libbpf.look_up(maps["state"], struct.pack("=I", 0), 4) is None:
            return None, {}
        last = struct.pack("=I", abi.SHORTCUT_LINES)
        mark = libbpf.look_up(maps["shortcuts"], last, abi.LINE) or b""
        counters = Counters(maps["counters"], maps["parsing"])
        counts = {
            origin: counters.of_rule(number)
            for origin, number in read_origins(maps["origins"]).items()
        }
        return mark[32:].hex(), counts
    finally:
        for descriptor in maps.values():
            os.close(descriptor)
