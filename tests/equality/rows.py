"""Verdicts written out by hand, and rows of the table of fields that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ipsecd.compiler import rows as compiled_rows
from ipsecd.compiler import tables
from ipsecd.language.filters import parse_spec
from ipsecd.model import precedence
from ipsecd.model.addresses import Family
from ipsecd.model.fields import BY_NAME, FIELDS, Criterion, Header, Location, Place
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, InForce, Origin
from tests.strategies import ME, OTHERS

V4, V6 = Family.IPV4, Family.IPV6
BLOCK, PERMIT = Action.BLOCK, Action.PERMIT


def arrives(
    family: Family,
    protocol: int,
    source_port: int | None = None,
    destination_port: int | None = None,
    message: tuple[int, int] | None = None,
) -> Packet:
    packet = Packet(
        Point.ARRIVING,
        family,
        OTHERS[family][0],
        ME[family],
        protocol,
        source_port,
        destination_port,
    )
    if message is None:
        return packet
    return replace(packet, icmp_type=message[0], icmp_code=message[1])


CASES: tuple[tuple[tuple[str, ...], Packet, Action], ...] = tuple(
    (policy, packet, action)
    for family, peer, me, icmp in (
        (V4, "10.9.0.2", "10.9.0.1", 1),
        (V6, "[fd09::2]", "[fd09::1]", 58),
    )
    for policy, packet, action in (
        ((f"[{peer}=*]",), arrives(family, 47), BLOCK),
        ((f"[{me}=*]",), arrives(family, 47), PERMIT),
        ((f"[*={me}]",), arrives(family, 47), BLOCK),
        ((f"[*={peer}]",), arrives(family, 47), PERMIT),
        (("[*=*::GRE]",), arrives(family, 47), BLOCK),
        (("[*=*::GRE]",), arrives(family, 50), PERMIT),
        (("[*:53=*::UDP]",), arrives(family, 17, 53, 80), BLOCK),
        (("[*:53=*::UDP]",), arrives(family, 17, 80, 53), PERMIT),
        (("[*:53=*::UDP]",), arrives(family, 17, 53 + 256, 80), PERMIT),
        (("[*=*:53:UDP]",), arrives(family, 17, 80, 53), BLOCK),
        (("[*=*:53:UDP]",), arrives(family, 17, 53, 80), PERMIT),
        (("[*=*:53:UDP]",), arrives(family, 17, 80, 53 + 256), PERMIT),
        (("[*=*::ICMP/3/4]",), arrives(family, icmp, message=(3, 4)), BLOCK),
        (("[*=*::ICMP/3/4]",), arrives(family, icmp, message=(3, 1)), PERMIT),
        (("[*=*::ICMP/3]",), arrives(family, icmp, message=(3, 1)), BLOCK),
        (("[*=*::ICMP/3]",), arrives(family, icmp, message=(1, 3)), PERMIT),
        (("[*=*::ICMP]", "(*=*::ICMP/3)"), arrives(family, icmp, message=(3, 0)), PERMIT),
        (("[*=*::ICMP/3]", f"({peer}=*)"), arrives(family, icmp, message=(3, 0)), PERMIT),
        (("[*=*:53:UDP]", "(*:80=*::UDP)"), arrives(family, 17, 80, 53), BLOCK),
        (("[*=*:53:UDP]", f"({peer}=*)"), arrives(family, 17, 80, 53), PERMIT),
    )
)
"""Policies of blocks and permits, a packet, and what becomes of it by the design."""

_IN_ARRIVING = Location(Header.TRANSPORT, 2, 2)

BROKEN: dict[str, tuple[str, str, Any]] = {
    "source in the wrong place": ("source", "place", Place.DESTINATION),
    "destination port in the wrong place": ("destination_ports", "place", Place.SOURCE_PORT),
    "source port too short": ("source_ports", "width", 1),
    "message in the wrong place": ("message", "place", Place.SOURCE_PORT),
    "message too short": ("message", "width", 1),
    "message of the wrong rank": ("message", "criterion", Criterion.ADDRESSES),
    "destination port of the wrong rank": ("destination_ports", "criterion", Criterion.ADDRESSES),
    "source at the wrong offset": ("source", "location", BY_NAME["destination"].location),
    "destination port at the wrong offset": (
        "destination_ports",
        "location",
        BY_NAME["source_ports"].location,
    ),
    "message at the wrong offset": ("message", "location", _IN_ARRIVING),
}
"""A row, and what is wrong in it."""

IN_PACKETS = tuple(name for name in BROKEN if BROKEN[name][1] == "location")
"""What the programs never see: they know by themselves where a packet has its fields."""
IN_PROGRAMS = tuple(name for name in BROKEN if "place" in name)
"""What rules never see: they load every field by itself."""


def in_force(policy: tuple[str, ...]) -> list[InForce]:
    specs = [parse_spec(text) for text in policy]
    return [
        InForce(Origin("static", "P", f"r{number}"), spec.filter, spec.action or BLOCK)
        for number, spec in enumerate(specs)
    ]


@contextmanager
def broken(name: str) -> Iterator[None]:
    """Put the wrong row in, and clear the caches of all that has looked at the rows before."""
    field, attribute, value = BROKEN[name]
    row = BY_NAME[field]
    right, order = getattr(row, attribute), precedence._FIELDS_OF
    caches: tuple[Callable[[], None], ...] = (
        tables._parts.cache_clear,
        tables.encoders.cache_clear,
        compiled_rows._table.cache_clear,
    )
    try:
        object.__setattr__(row, attribute, value)
        precedence._FIELDS_OF = tuple(
            tuple(other.name for other in FIELDS if other.criterion is criterion)
            for criterion in precedence._ORDER
        )
        for clear in caches:
            clear()
        yield
    finally:
        object.__setattr__(row, attribute, right)
        precedence._FIELDS_OF = order
        for clear in caches:
            clear()
