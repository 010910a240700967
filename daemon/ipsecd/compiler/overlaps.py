"""Owns the search for entries that match packets which another entry matches too.

It is an index over compiled tables: what an entry costs does not grow with the number of entries,
apart from sorting a table of dynamic rules once after it has changed. Which of two entries outranks
the other is a matter of their tables (``TableId.rank``), and is not decided here. Must not know
where a host's addresses come from.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ipsecd.compiler.classifier import Table
from ipsecd.compiler.shapes import EXACT, Span
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import VolatileTable
from ipsecd.model.addresses import Family, Keyword, Network, Process
from ipsecd.model.fields import ME, Place
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import InterfaceType, LinkName
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import (
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    TCP,
    Endpoint,
    Filter,
    PortRange,
)

T = TypeVar("T")
AnyTable = Table | VolatileTable
OwnAddresses = Callable[[Family], Sequence[int]]
"""The addresses of this host of one IP version."""

MAX_HEADS = 256
"""How many combinations of protocol and ports in the keys of one table are tried."""
MAX_SCANNED = 256
"""How many entries of one table are looked at for one other."""
_KEPT = 64
_SOMEBODY = {Family.IPV4: 0xCB007107, Family.IPV6: 0x20010DB8 << 96 | 7}
"""Addresses for documentation (RFC 5737, RFC 3849): those of somebody anywhere."""
_NOBODY_LISTENS = 9
_CHOSEN_PORT = 49152


@dataclass(frozen=True, slots=True)
class Match:
    """What one entry asks of packets: its table, and the values in its key by field.

    A field whose table looks at a range of it has no value.
    """

    table: TableId
    values: dict[str, int]

    @classmethod
    def of(cls, table: TableId, key: bytes) -> Match:
        """What the entry of `table` under `key` asks."""
        return cls(
            table,
            {
                part.field.name: int.from_bytes(key[part.offset : part.offset + part.size], "big")
                for part in table.parts
            },
        )

    def span(self, name: str) -> tuple[int, int] | None:
        """The first and last number of a RANGE that it asks for, None for any."""
        shape: Span | None = self.table.looks.get(name)
        if shape is None:
            return None
        return (self.values[name], self.values[name]) if shape == EXACT else shape.bounds

    def length(self, name: str) -> int:
        """The prefix length of an address, 0 for any, or ``ME``."""
        length: int = self.table.source if name == "source" else self.table.destination
        return length

    @property
    def filter(self) -> Filter:
        """A filter that asks the same, without the conditions of its rule."""
        ports = {
            name: (PortRange(*span),) if (span := self.span(name)) else ()
            for name in ("source_ports", "destination_ports")
        }
        message = None
        if span := self.span("message"):
            code = None if span[0] != span[1] else span[0] & 0xFF
            number = span[0] >> 8
            v4 = self.table.family is Family.IPV4
            message = IcmpMessage(number if v4 else None, None if v4 else number, code)
        source = self._address("source")
        if self.table.process:
            source = Process(*self.table.process.split(":", 1))
        return Filter(
            Endpoint(source, ports["source_ports"]),
            Endpoint(self._address("destination"), ports["destination_ports"]),
            self.values.get("protocol"),
            message=message,
        )

    def _address(self, name: str) -> Network | Keyword | Process:
        length = self.length(name)
        if length == ME:
            return Keyword.ME
        if not length:
            return Keyword.ANY
        return Network(self.table.family, self.values[name], length)


class Overlaps:
    """Finds entries of tables; remembers how tables of dynamic rules are sorted."""

    def __init__(self) -> None:
        self._sorted: OrderedDict[int, tuple[object, Sequence[bytes]]] = OrderedDict()
        self._heads: OrderedDict[int, tuple[object, tuple[bytes, ...]]] = OrderedDict()

    def find(self, table: AnyTable, match: Match, own: OwnAddresses) -> Iterator[bytes]:
        """Keys of entries of `table` that match a packet which `match` matches, some of them.

        There may be more than are found, where very many would have to be looked at.
        """
        if table.id.family is not match.table.family or not _go_together(table.id, match):
            return
        parts = table.id.parts
        addresses = [part for part in parts if (part.field.place or 0) >= Place.SOURCE]
        ranges = [_ranges(table.id, match, part.field.name, own) for part in addresses]
        for head in self._heads_of(table, match):
            if not addresses:
                yield from [head] if table.find(head) is not None else []
            elif all(len(one) == 1 and one[0][0] == one[0][1] for one in ranges):
                key = head + b"".join(
                    one[0][0].to_bytes(part.size, "big")
                    for one, part in zip(ranges, addresses, strict=True)
                )
                yield from [key] if table.find(key) is not None else []
            else:
                size = addresses[0].size
                for first, last in ranges[0]:
                    low = head + first.to_bytes(size, "big")
                    high = head + last.to_bytes(size, "big") + b"\xff" * 16
                    for key in self._between(table, low, high):
                        if len(ranges) == 1 or _within(key[len(head) + size :], ranges[1]):
                            yield key

    def _between(self, table: AnyTable, low: bytes, high: bytes) -> Iterator[bytes]:
        keys = self._keys(table)
        start = bisect_left(keys, low)
        end = min(bisect_right(keys, high), start + MAX_SCANNED)
        for number in range(start, end):
            yield keys[number]

    def _heads_of(self, table: AnyTable, match: Match) -> Iterator[bytes]:
        """What stands before the addresses in the keys to look for: protocol and ports."""
        parts = [part for part in table.id.parts if (part.field.place or 0) < Place.SOURCE]
        if not parts:
            yield b""
            return
        wanted = [_wanted(match, part.field.name) for part in parts]
        width = parts[-1].offset + parts[-1].size
        width += -width % 4
        if all(one is not None and one[0] == one[1] for one in wanted):
            head = bytearray(width)
            for part, one in zip(parts, wanted, strict=True):
                assert one is not None
                head[part.offset : part.offset + part.size] = one[0].to_bytes(part.size, "big")
            yield bytes(head)
            return
        for known in self._all_heads(table, width):
            values = [
                int.from_bytes(known[part.offset : part.offset + part.size], "big")
                for part in parts
            ]
            if all(
                one is None or one[0] <= value <= one[1]
                for one, value in zip(wanted, values, strict=True)
            ):
                yield known

    def _all_heads(self, table: AnyTable, width: int) -> tuple[bytes, ...]:
        return _remembered(self._heads, _body(table), lambda: self._read_heads(table, width))

    def _read_heads(self, table: AnyTable, width: int) -> tuple[bytes, ...]:
        keys = self._keys(table)
        heads: list[bytes] = []
        at = 0
        while at < len(keys) and len(heads) < MAX_HEADS:
            heads.append(keys[at][:width])
            at = bisect_right(keys, heads[-1] + b"\xff" * 32, at)
        return tuple(heads)

    def _keys(self, table: AnyTable) -> Sequence[bytes]:
        if isinstance(table, Table):
            return _PackedKeys(table)
        entries = table.entries
        return _remembered(self._sorted, entries, lambda: sorted(entries))


def _remembered(
    memory: OrderedDict[int, tuple[object, T]], about: object, find_out: Callable[[], T]
) -> T:
    """What is known about an object, which is kept with it so that no other has its number."""
    known = memory.get(id(about))
    if known is None:
        known = memory[id(about)] = (about, find_out())
        if len(memory) > _KEPT:
            memory.popitem(last=False)
    return known[1]


def _body(table: AnyTable) -> object:
    """What stays the same as long as the entries do."""
    return table if isinstance(table, Table) else table.entries


@dataclass(frozen=True, slots=True)
class _PackedKeys(Sequence[bytes]):
    """The keys of a packed table as a sequence."""

    table: Table
    width: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", self.table.id.key_width)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: Any) -> Any:
        return self.table.keys[index * self.width : (index + 1) * self.width]


def _go_together(table: TableId, match: Match) -> bool:
    """Whether a packet can meet what both ask that is not in keys: ranges, words, ``me``."""
    ours, theirs = match.table, table
    if not ours.points & theirs.points:
        return False
    for name in ("source_ports", "destination_ports", "message"):
        span: Span | None = theirs.looks.get(name)
        wanted = match.span(name)
        if span is not None and wanted and span != EXACT:
            first, last = span.bounds
            if max(first, wanted[0]) > min(last, wanted[1]):
                return False
    if ours.interface_type and theirs.interface_type not in ("", ours.interface_type):
        return False
    if ours.process and theirs.process not in ("", ours.process):
        return False
    return _common_link(ours.interface_name, theirs.interface_name) is not None


def _common_link(first: str, second: str) -> str | None:
    """The name of a link that both patterns mean, "" for any; None if there is none."""
    patterns = sorted(filter(None, (first, second)), key=len)
    if not patterns:
        return ""
    name = patterns[-1].removesuffix("*") + ("0" if patterns[-1].endswith("*") else "")
    for candidate in (name, *(pattern.removesuffix("*") for pattern in patterns)):
        if all(LinkName(pattern).covers(candidate) for pattern in patterns):
            return candidate
    return None


def _wanted(match: Match, name: str) -> tuple[int, int] | None:
    """The first and last value of a field other than an address, None for any."""
    if name == "protocol":
        value = match.values.get("protocol")
        return None if value is None else (value, value)
    return match.span(name)


def _ranges(
    table: TableId, match: Match, name: str, own: OwnAddresses
) -> tuple[tuple[int, int], ...]:
    """The ranges in which an address in the keys of `table` must lie."""
    length, wanted = match.length(name), table.source if name == "source" else table.destination
    bits = table.family.bits
    dropped = bits - wanted
    if length == ME:
        own_networks = {value >> dropped << dropped for value in own(table.family)}
        return tuple((value, value) for value in sorted(own_networks))
    if not length:
        return ((0, (1 << bits) - 1),)
    first = match.values[name]
    last = first | ((1 << (bits - length)) - 1)
    return ((first >> dropped << dropped, last >> dropped << dropped),)


def _within(part: bytes, ranges: Sequence[tuple[int, int]]) -> bool:
    value = int.from_bytes(part, "big")
    return any(first <= value <= last for first, last in ranges)


def common_packet(first: Match, second: Match, own: OwnAddresses) -> Packet | None:
    """A packet that both match; None if none is known."""
    points = first.table.points & second.table.points
    point = next((each for each in (Point.ARRIVING, Point.SENDING) if each in points), None)
    if point is None:
        return None
    both = (first, second)
    addresses = {name: _common_address(name, both, own) for name in ("source", "destination")}
    source, destination = addresses["source"], addresses["destination"]
    if source is None or destination is None:
        return None
    message = _common_number("message", both)
    protocol = next((match.values["protocol"] for match in both if "protocol" in match.values), TCP)
    sport, dport = (_common_number(name, both) for name in ("source_ports", "destination_ports"))
    has_ports = protocol in PROTOCOLS_WITH_PORTS
    link = _common_link(first.table.interface_name, second.table.interface_name)
    kinds = {match.table.interface_type for match in both} - {""}
    senders = {match.table.process for match in both} - {""}
    return Packet(
        point,
        first.table.family,
        source,
        destination,
        protocol,
        (sport or _CHOSEN_PORT) if has_ports else None,
        (dport or _NOBODY_LISTENS) if has_ports else None,
        InterfaceType(kinds.pop()) if kinds else InterfaceType.LAN,
        icmp_type=None if message is None else message >> 8,
        icmp_code=(message or 0) & 0xFF,
        interface=link or "",
        processes=frozenset(Process(*sender.split(":", 1)) for sender in senders),
    )


def _common_number(name: str, matches: Sequence[Match]) -> int | None:
    spans = [span for match in matches if (span := match.span(name))]
    if not spans:
        return None
    first, last = max(span[0] for span in spans), min(span[1] for span in spans)
    return first if first <= last <= MAX_PORT else None


def _common_address(name: str, matches: Sequence[Match], own: OwnAddresses) -> int | None:
    family = matches[0].table.family
    named = [match for match in matches if match.length(name) > 0]
    is_mine = any(match.length(name) == ME for match in matches)
    if named:
        narrow = max(named, key=lambda match: match.length(name))
        network = Network(family, narrow.values[name], narrow.length(name))
        if is_mine:
            return next((value for value in own(family) if value in network), None)
        if network.length < family.bits - 1:
            return network.address + 1
        return network.address
    if is_mine:
        return next(iter(own(family)), None)
    return _SOMEBODY[family]
