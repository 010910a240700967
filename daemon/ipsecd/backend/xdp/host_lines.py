"""Owns the addresses of this host as lines for the programs to look up; pure.

The lines of each IP version are a hash table. Most changes are of few addresses among many, so a
table is changed in place; only if an address finds no room in it all are laid out anew.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from ipsecd.backend.xdp import abi
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host

_ROOM = {Family.IPV4: 12, Family.IPV6: 3}
_CODEC = {Family.IPV4: abi.HOST4, Family.IPV6: abi.HOST6}


class HostLines:
    """The lines of one host at a time."""

    def __init__(self) -> None:
        self._host: Host | None = None
        self._tables: dict[Family, _Table] = {}

    def of(self, host: Host) -> bytes:
        """The lines that hold the addresses of `host`; raises ``LimitExceeded`` for too many."""
        before, self._host = self._host, None
        if before is None:
            self._lay_out(host)
        else:
            try:
                self._change(before, host)
            except LimitExceeded:
                self._lay_out(host)
        self._host = host
        return b"".join(bytes(table.content) for table in self._tables.values())

    def _lay_out(self, host: Host) -> None:
        self._tables = {family: _Table(family) for family in Family}
        self._change(Host(), host)

    def _change(self, before: Host, host: Host) -> None:
        """Change the lines from one host to another; raises ``LimitExceeded``."""
        changed = (before.addresses ^ host.addresses) | (before.broadcasts ^ host.broadcasts)
        come = []
        for family, address in sorted(changed):
            own, shared = (family, address) in host.addresses, (family, address) in host.broadcasts
            kind = own * abi.LOCAL_OWN | shared * abi.LOCAL_BROADCAST
            self._tables[family].remove(address)
            if kind:
                come.append((family, address, kind))
        for family, address, kind in come:
            self._tables[family].add(address, kind)
        for table in self._tables.values():
            table.encode()


class _Table:
    """The lines of one IP version; ``content`` is what they are as bytes."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._size = family.bits // 8
        self._lines: dict[int, dict[bytes, int]] = {}
        self._continued: set[int] = set()
        self._changed: set[int] = set()
        self.content = bytearray(abi.HOST_LINES * abi.LINE)

    def add(self, address: int, kind: int) -> None:
        """Add an address that is not there; raises ``LimitExceeded``."""
        data = address.to_bytes(self._size, "big")
        for at in self._places(data):
            line = self._lines.setdefault(at, {})
            self._changed.add(at)
            if len(line) < _ROOM[self._family]:
                line[data] = kind
                return
            self._continued.add(at)
        raise LimitExceeded(
            f"this host has more IPv{int(self._family)} addresses than the programs can hold",
            "nftables holds them all",
        )

    def remove(self, address: int) -> None:
        """Remove an address if it is there. A line that was full once stays one that continues."""
        data = address.to_bytes(self._size, "big")
        for at in self._places(data):
            if self._lines.get(at, {}).pop(data, None) is not None:
                self._changed.add(at)
                return

    def encode(self) -> None:
        """Write the lines that have changed."""
        for at in self._changed:
            line = self._lines[at]
            _CODEC[self._family].pack_into(
                self.content,
                at * abi.LINE,
                b"".join(line),
                bytes(line.values()),
                len(line) | (abi.HASH_CONTINUES if at in self._continued else 0),
            )
        self._changed.clear()

    def _places(self, data: bytes) -> Iterator[int]:
        """The lines in which an address may lie: that of its hash, and those after it."""
        if self._family is Family.IPV4:
            word = int.from_bytes(data, sys.byteorder)
            first = (word * 0x9E3779B1 & 0xFFFFFFFF) >> (32 - abi.HOST_LINE_BITS)
        else:
            # The zero is a third word: without it the last byte would not change the line.
            words = (*struct.unpack("=2Q", data), 0)
            first = abi.hash_words(words) & (abi.HOST_LINES - 1)
        return ((first + probe) % abi.HOST_LINES for probe in range(abi.HOST_PROBES))
