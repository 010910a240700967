"""Owns the shortcuts: verdicts on packets by their destination port alone, equal to the steps'.

Invariants:

1. A port passes if no step can match its packets. It drops if the first step that can match is a
   block which looks only at protocol, destination port and whether the packet is for this host,
   and if nothing exempts its packets. No other port has a shortcut; to have none is always right.
2. While the state is replaced there are no shortcuts, so that no packet is judged by the words of
   one state and the steps of another.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence

from ipsecd.backend.xdp import abi
from ipsecd.compiler.classifier import Classifier, HasTableId, Table, in_order
from ipsecd.compiler.shapes import EXACT
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import VolatileTable
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import Pattern, exemption
from ipsecd.model.fields import ME
from ipsecd.model.packets import Point
from ipsecd.model.values import MAX_PORT, TCP, UDP, Action, Origin

PORTS = MAX_PORT + 1
_FAMILIES = (Family.IPV4, Family.IPV6)
_PROTOCOLS = (TCP, UDP)
_WORD = struct.Struct("=I")
_LOWEST_BYTE = 0 if sys.byteorder == "little" else _WORD.size - 1
_BYTES = abi.SHORTCUT_LINES * abi.LINE
_DIGEST_AT = _BYTES + 32
MAX_ENTRIES = 4096
"""The most entries of a table that are looked at one by one; longer tables leave no shortcut."""


Section = tuple[Family, int]
"""An IP version and a protocol."""

_SECTIONS = [(family, protocol) for family in _FAMILIES for protocol in _PROTOCOLS]


# For `bytes.translate`: only words that pass stay, or only those that drop; all others become 0.
_PASSING_ONLY = bytes(kind * (kind == abi.SHORTCUT_PASS) for kind in range(256))
_DROPPING_ONLY = bytes(kind * (kind != abi.SHORTCUT_PASS) for kind in range(256))


class Shortcuts:
    """The words in the memory that the programs read."""

    def __init__(self, memory: mmap.mmap) -> None:
        """`memory` is that of the map, all zero."""
        self._memory = memory
        self._words = bytearray(_BYTES)

    def close(self) -> None:
        """Let go of the memory; the words stay in force."""
        self._memory.close()

    def clear(self) -> None:
        """Let every packet walk the steps; the digest stays that of the policy in force."""
        self._set(bytes(_BYTES))

    def set(self, words: bytes, digest: str) -> None:
        """Put `words` in force, which agree with the steps in force, and the policy's `digest`.

        The next process reads the digest here: that takes no more privilege than to load maps.
        """
        self._set(words)
        self._memory[_DIGEST_AT : _DIGEST_AT + 32] = bytes.fromhex(digest).ljust(32, b"\0")

    def _set(self, words: bytes) -> None:
        # The verdict of a word is in one byte of it, so no packet sees half of a change.
        self._memory[:_BYTES] = words
        self._words = bytearray(words)

    def forget(self, table: TableId, key: bytes) -> None:
        """Let packets that an entry of `table` under `key` can match walk the steps."""
        if Point.ARRIVING not in table.points:
            return
        for section, first, last in _reach(table, (key,)):
            at = (_SECTIONS.index(section) * PORTS + first) * _WORD.size
            none = bytes((last - first + 1) * _WORD.size)
            self._memory[at : at + len(none)] = none
            self._words[at : at + len(none)] = none

    def set_first_host(self, line: int) -> None:
        """Set from which line of the map of hosts on addresses are this host's."""
        self._memory[_BYTES : _BYTES + _WORD.size] = _WORD.pack(line)

    def are_changed(self) -> bool:
        """Whether somebody else wrote to them."""
        return self._memory[:_BYTES] != self._words


def shortcuts(
    classifier: Classifier,
    volatile: Sequence[VolatileTable],
    rules: Mapping[Origin, int],
    points: frozenset[Point],
) -> bytes:
    """The words that agree with the steps of `classifier` and `volatile`."""
    kinds = {section: bytearray([abi.SHORTCUT_PASS]) * PORTS for section in _SECTIONS}
    dropping: dict[Section, dict[int, int]] = {section: {} for section in _SECTIONS}
    tables: list[HasTableId] = [*classifier.tables, *volatile]
    for table in in_order(tables) if Point.ARRIVING in points else ():
        if Point.ARRIVING not in table.id.points:
            continue
        if isinstance(table, Table) and _is_plain_block(table.id) and len(table) <= MAX_ENTRIES:
            _set_drops(kinds, dropping, table, rules)
            continue
        # Packets that a table of higher rank drops in any case stay dropped.
        for section, first, last in _reach(table.id, _keys(table)):
            ports = kinds[section]
            ports[first : last + 1] = ports[first : last + 1].translate(_DROPPING_ONLY)
    for name in classifier.exemptions:
        for pattern in exemption(name).patterns:
            _exempt(kinds, pattern)
    words = bytearray(_BYTES)
    words[_LOWEST_BYTE :: _WORD.size] = b"".join(kinds.values())
    for number, section in enumerate(_SECTIONS):
        for port, word in dropping[section].items():
            if kinds[section][port] != abi.SHORTCUT_NONE:
                _WORD.pack_into(words, (number * PORTS + port) * _WORD.size, word)
    return bytes(words)


def _is_plain_block(table: TableId) -> bool:
    plain = TableId.of(
        table.family,
        table.volatile,
        Action.BLOCK,
        destination=table.destination,
        protocol=True,
        destination_ports=EXACT,
    )
    return table == plain and table.destination in {0, ME}


def _set_drops(
    kinds: dict[Section, bytearray],
    dropping: dict[Section, dict[int, int]],
    table: Table,
    rules: Mapping[Origin, int],
) -> None:
    kind = abi.SHORTCUT_DROP_ME if table.id.destination == ME else abi.SHORTCUT_DROP
    for index, key in enumerate(_keys(table) or ()):
        for section, port, _ in _reach(table.id, (key,)):
            if kinds[section][port] == abi.SHORTCUT_PASS:
                kinds[section][port] = kind
                rule = rules[table.origin(index)]
                dropping[section][port] = rule << abi.SHORTCUT_BITS | kind


def _keys(table: HasTableId) -> Iterable[bytes] | None:
    """The keys of a table, None if there are too many to look at."""
    if isinstance(table, VolatileTable):
        return table.entries if len(table) <= MAX_ENTRIES else None
    assert isinstance(table, Table)
    width = table.id.key_width
    if len(table) > MAX_ENTRIES:
        return None
    return [table.keys[i * width : (i + 1) * width] for i in range(len(table))]


def _reach(table: TableId, keys: Iterable[bytes] | None) -> set[tuple[Section, int, int]]:
    """The sections, and the first and last port, of packets that keys of `table` can match."""
    first, last = table.destination_ports.bounds
    if keys is None:
        return {((table.family, protocol), first, last) for protocol in _PROTOCOLS}
    at = {part.field.name: slice(part.offset, part.offset + part.size) for part in table.parts}
    reached = set()
    for key in keys:
        if "destination_ports" in at:
            first = last = int.from_bytes(key[at["destination_ports"]], "big")
        for protocol in _PROTOCOLS:
            if not table.protocol or key[at["protocol"]] == bytes((protocol,)):
                reached.add(((table.family, protocol), first, last))
    return reached


def _exempt(kinds: dict[Section, bytearray], pattern: Pattern) -> None:
    """Take away the drops for packets that `pattern` may exempt."""
    if Point.ARRIVING not in pattern.points or pattern.icmp_types:
        return
    port = pattern.destination_port
    first, last = (0, MAX_PORT) if port is None else (port, port)
    for family, protocol in _SECTIONS:
        if pattern.family in {None, family} and pattern.protocol in {None, protocol}:
            ports = kinds[family, protocol]
            ports[first : last + 1] = ports[first : last + 1].translate(_PASSING_ONLY)
