"""Owns how tables look at fields: what each shape asks of a packet, puts into keys and stores.

A shape is how one table looks at one field. For a PREFIX it is a prefix length, which may be that
of entries of a list (``Listed``), for a NUMBER whether the number is given, for a RANGE a ``Span``
and for a WORD the word. This module must not know which fields there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family, check_list_names
from ipsecd.model.fields import ME, Field, Kind, Listed, Prefix
from ipsecd.model.lists import Form
from ipsecd.model.packets import Host, Packet
from ipsecd.model.precedence import ANY_PORT_WIDTH
from ipsecd.model.values import MAX_PORT

Encode = Callable[[int], bytes]
"""Lays out the value of one field in a key."""


class Span(NamedTuple):
    """How a table looks at a number of 16 bits.

    ``kind`` is "any" if it does not look, "exact" if the number is in the key (``first`` and
    ``last`` are 0 then), and "range" if it looks for a number from ``first`` to ``last``.
    """

    kind: str
    first: int = 0
    last: int = 0

    @property
    def width(self) -> int:
        """How many numbers one entry covers."""
        return {"any": ANY_PORT_WIDTH, "exact": 1}.get(self.kind, self.last - self.first + 1)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last number that the table itself lets pass."""
        return (self.first, self.last) if self.kind == "range" else (0, MAX_PORT)


ANY = Span("any")
EXACT = Span("exact")


class Shapes(ABC):
    """The operations on the shapes of one kind of field."""

    any: Any
    """The shape of a table that does not look at the field."""

    def looks(self, shape: Any) -> bool:
        """Whether a table of this shape looks at the field."""
        return bool(shape != self.any)

    def place(self, shape: Any) -> Any:
        """What tables of one rank are sorted by, as in ``precedence.place``."""
        return shape

    @abstractmethod
    def in_key(self, shape: Any) -> bool:
        """Whether the keys of a table of this shape hold the field."""

    @abstractmethod
    def width(self, shape: Any, family: Family) -> int:
        """The width of the entries of such a table, in the units of ``precedence.narrowness``."""

    @abstractmethod
    def shaped(self, wanted: Any) -> tuple[Any, int]:
        """The shape for what a filter wants, and the value for the key."""

    @abstractmethod
    def value_of(self, field: Field, shape: Any, packet: Packet, host: Host) -> int | None:
        """The value that a packet has in the key; None if it matches nothing in such a table."""

    @abstractmethod
    def read(self, stored: Any, field: Field, family: Family) -> Any:
        """The shape that was `stored`; raises ``InvalidInput`` or ``ValueError`` if it is none."""

    def encoder(self, shape: Any, family: Family) -> Encode:
        """The function that lays out a value for a key; fields begin at multiples of four bytes."""
        del shape, family
        raise NotImplementedError

    def mask(self, shape: Any, field: Field, family: Family) -> bytes:
        """A mask of the bits of the field that the keys of such a table hold."""
        del shape
        return b"\xff" * field.bytes_in(family)


class _Prefixes(Shapes):
    any = 0

    def place(self, shape: Any) -> Any:
        return (shape.length, shape.name) if isinstance(shape, Listed) else (shape, "")

    def in_key(self, shape: Any) -> bool:
        # The entries of a list are kept once, however many tables look into it.
        return not isinstance(shape, Listed) and bool(shape > 0)

    def width(self, shape: Any, family: Family) -> int:
        return family.bits if shape == ME else length_of(shape)

    def shaped(self, wanted: Any) -> tuple[Any, int]:
        length, address = wanted
        return length, address

    def value_of(self, field: Field, shape: Any, packet: Packet, host: Host) -> int | None:
        assert field.mine is not None
        if shape == ME and not field.mine(host, packet):
            return None
        value = int(field.seen(packet))
        if isinstance(shape, Listed):
            entries = host.lists.get(shape.name)
            form = Form(packet.family, shape.length)
            return value if entries and entries.holds(form, value) else None
        return value

    def encoder(self, shape: Any, family: Family) -> Encode:
        size, dropped = family.bits // 8, family.bits - int(shape)
        return lambda value: (value >> dropped << dropped).to_bytes(size, "big")

    def mask(self, shape: Any, field: Field, family: Family) -> bytes:
        bits = family.bits
        mask = (1 << bits) - (1 << (bits - max(length_of(shape), 0)))
        return mask.to_bytes(field.bytes_in(family), "big")

    def read(self, stored: Any, field: Field, family: Family) -> Any:
        del field
        if isinstance(stored, list):
            name, length = stored
            if not isinstance(name, str):
                raise InvalidInput(f"the compiled policy has {name!r:.40} for a text")
            check_list_names(name)
            return Listed(name, whole(length, 0, family.bits))
        return whole(stored, ME, family.bits)


class _Numbers(Shapes):
    any = False

    def in_key(self, shape: Any) -> bool:
        return bool(shape)

    def width(self, shape: Any, family: Family) -> int:
        del family
        return int(shape)

    def shaped(self, wanted: Any) -> tuple[Any, int]:
        return (False, 0) if wanted is None else (True, wanted)

    def value_of(self, field: Field, shape: Any, packet: Packet, host: Host) -> int | None:
        del host
        packet_value = field.seen(packet)
        if packet_value is None:
            return None if shape else 0
        return int(packet_value)

    def encoder(self, shape: Any, family: Family) -> Encode:
        del shape, family
        return lambda value: bytes((value, 0, 0, 0))

    def read(self, stored: Any, field: Field, family: Family) -> Any:
        del field, family
        if not isinstance(stored, bool):
            raise InvalidInput(f"the compiled policy has {stored!r:.40} for true or false")
        return stored


class _Ranges(Shapes):
    any = ANY

    def in_key(self, shape: Any) -> bool:
        return bool(shape == EXACT)

    def width(self, shape: Any, family: Family) -> int:
        del family
        return int(shape.width)

    def shaped(self, wanted: Any) -> tuple[Any, int]:
        if wanted is None:
            return ANY, 0
        first, last = wanted
        return (EXACT, first) if first == last else (_span(first, last), first)

    def value_of(self, field: Field, shape: Any, packet: Packet, host: Host) -> int | None:
        del host
        packet_value = field.seen(packet)
        if packet_value is None:
            return 0 if shape == ANY else None
        first, last = shape.bounds
        return int(packet_value) if first <= packet_value <= last else None

    def encoder(self, shape: Any, family: Family) -> Encode:
        del shape, family
        return lambda value: value.to_bytes(2, "big") + b"\0\0"

    def read(self, stored: Any, field: Field, family: Family) -> Any:
        del field, family
        kind, first, last = stored
        if not isinstance(kind, str):
            raise InvalidInput(f"the compiled policy has {kind!r:.40} for a text")
        span = Span(kind, whole(first, 0, MAX_PORT), whole(last, 0, MAX_PORT))
        if span not in (ANY, EXACT) and not (kind == "range" and span.first < span.last):
            raise InvalidInput("the compiled policy looks at ports that do not exist")
        return span


class _Words(Shapes):
    any = ""

    def in_key(self, shape: Any) -> bool:
        del shape
        return False

    def width(self, shape: Any, family: Family) -> int:
        del family
        return int(bool(shape))

    def shaped(self, wanted: Any) -> tuple[Any, int]:
        return wanted, 0

    def value_of(self, field: Field, shape: Any, packet: Packet, host: Host) -> int | None:
        del host
        packet_value = field.seen(packet)
        return 0 if not shape or shape in packet_value else None

    def read(self, stored: Any, field: Field, family: Family) -> Any:
        del family
        if not isinstance(stored, str):
            raise InvalidInput(f"the compiled policy has {stored!r:.40} for a text")
        return field.canonical(stored) if stored else ""


SHAPES: dict[Kind, Shapes] = {
    Kind.PREFIX: _Prefixes(),
    Kind.NUMBER: _Numbers(),
    Kind.RANGE: _Ranges(),
    Kind.WORD: _Words(),
}


@lru_cache(maxsize=4096)
def _span(first: int, last: int) -> Span:
    return Span("range", first, last)


def length_of(shape: Prefix) -> int:
    """The prefix length that a table asks for, which may be ``ME``."""
    return shape.length if isinstance(shape, Listed) else shape


def whole(stored: Any, least: int, most: int) -> int:
    """A stored number from `least` to `most`; raises ``InvalidInput`` for anything else."""
    if type(stored) is not int or not least <= stored <= most:
        raise InvalidInput(f"the compiled policy has {stored!r:.40} for a number")
    return stored
