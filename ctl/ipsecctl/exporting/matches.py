"""Owns writing filters out into ranked matches; must not know in which words they are exported.

A match is what one filter asks of packets of one IP version in one direction, with one value for
each field of ``FIELDS``. Of all matches of a packet at a point, the one with the greatest rank
there decides. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, product
from typing import Any

from ipsecd.model.addresses import Family, Keyword
from ipsecd.model.fields import FIELDS, ME, Field, Kind, Listed, Way
from ipsecd.model.packets import Point
from ipsecd.model.precedence import ANY_PORT_WIDTH, Rank, narrowness, rank
from ipsecd.model.values import Action, InForce, Origin

_PLACE = {field.name: number for number, field in enumerate(FIELDS)}
_MERGED = ("protocol", "destination_ports", "source_ports", "source", "destination")
"""The fields whose values are put together, in this order: short lists of ports come first."""


@dataclass(frozen=True)
class Match:
    """One match. ``values`` are those that ``FIELDS`` want, for each field one."""

    in_force: InForce
    family: Family
    values: tuple[Any, ...]

    @property
    def action(self) -> Action:
        """What its rule does."""
        return self.in_force.action

    @cached_property
    def points(self) -> frozenset[Point]:
        """Where it is looked at, as ``decide`` has it.

        To ``me`` on arrival, from ``me`` when sent or leaving, else on arrival and when sent;
        permits without ``me`` once more when a packet leaves.
        """
        if self.is_to_me:
            points = frozenset() if self.is_from_me else frozenset({Point.ARRIVING})
        elif self.is_from_me:
            points = frozenset({Point.SENDING, Point.LEAVING})
        elif self.action is Action.PERMIT:
            points = frozenset(Point)
        else:
            points = frozenset({Point.ARRIVING, Point.SENDING})
        for field, value in zip(FIELDS, self.values, strict=True):
            if _is_asked(field, value):
                points &= field.points
        return points

    def rank_at(self, point: Point) -> Rank:
        """Its rank for packets at a point; the greatest decides."""
        if point is Point.LEAVING and not self.is_from_me:
            return self._rank(before_translation=True)
        return self._rank_elsewhere

    @cached_property
    def _rank_elsewhere(self) -> Rank:
        return self._rank(before_translation=False)

    def _rank(self, *, before_translation: bool) -> Rank:
        origin = self.in_force.origin
        return rank(
            {
                field.name: narrowness(field, _width(field, value, self.family))
                for field, value in zip(FIELDS, self.values, strict=True)
            },
            protected=origin.protected,
            volatile=origin.volatile,
            action=self.action,
            before_translation=before_translation,
        )

    def value(self, name: str) -> Any:
        """What it wants of one field."""
        return self.values[_PLACE[name]]

    @property
    def is_from_me(self) -> bool:
        """Whether the source is ``me``."""
        return bool(self.value("source")[0] == ME)

    @property
    def is_to_me(self) -> bool:
        """Whether the destination is ``me``."""
        return bool(self.value("destination")[0] == ME)

    @property
    def is_of_me(self) -> bool:
        """Whether it is for packets from or to this host only."""
        return self.is_from_me or self.is_to_me

    @property
    def is_of_opening(self) -> bool:
        """Whether it is for packets only that open a connection."""
        return bool(self.value("opening"))

    @property
    def needs_transport(self) -> bool:
        """Whether it asks for ports or for a message of ICMP."""
        return any(self.value(name) for name in ("source_ports", "destination_ports", "message"))


@dataclass(frozen=True)
class Line:
    """Matches of one rule that differ in nothing but that each has one of several values.

    ``choices`` has for each field the values of which a packet has to have one.
    """

    origin: Origin
    action: Action
    family: Family
    choices: tuple[tuple[Any, ...], ...]

    def choice(self, name: str) -> tuple[Any, ...]:
        """The values of one field."""
        return self.choices[_PLACE[name]]


def matches_of(in_force: Iterable[InForce]) -> Iterator[Match]:
    """The matches of filters whose names are resolved, and whose lists have their lengths."""
    for each in in_force:
        flt = each.filter
        ways = [(flt.source, flt.destination)]
        if flt.mirrored:
            ways.append((flt.destination, flt.source))
        for source, destination in ways:
            if source.address is destination.address is Keyword.ME:
                continue
            for family in sorted(flt.families):
                way = Way(each, family, source, destination)
                for values in product(*(field.wanted(way) for field in FIELDS)):
                    yield Match(each, family, values)


def ranked(matches: Iterable[Match], point: Point) -> list[Match]:
    """Those of the matches that are looked at a point, the one that decides before others first."""

    def order(match: Match) -> tuple[Any, ...]:
        return tuple(-part for part in match.rank_at(point)), match.in_force.origin

    return sorted((match for match in matches if point in match.points), key=order)


def lines_of(ordered: Sequence[Match]) -> Iterator[Line]:
    """Matches in the order of their rank as lines, the first of which decides that fits a packet.

    Lines are put together only inside of a run of one action, where their order makes no
    difference to any packet.
    """
    for _, run in groupby(ordered, key=lambda match: match.action):
        lines = list(
            dict.fromkeys(
                Line(
                    match.in_force.origin,
                    match.action,
                    match.family,
                    tuple((value,) for value in match.values),
                )
                for match in run
            )
        )
        for name in _MERGED:
            lines = _merged(lines, name)
        yield from lines


def _merged(lines: list[Line], name: str) -> list[Line]:
    """The lines, with those as one that have different values of this field and nothing else."""
    place = _PLACE[name]
    values: dict[Any, dict[Any, None]] = {}
    first: dict[Any, Line] = {}
    for line in lines:
        choices = line.choices
        likeness = (
            line.origin,
            line.family,
            (*choices[:place], _kind_of_value(choices[place][0]), *choices[place + 1 :]),
        )
        first.setdefault(likeness, line)
        values.setdefault(likeness, {}).update(dict.fromkeys(choices[place]))
    return [
        replace(
            line,
            choices=(*line.choices[:place], tuple(values[likeness]), *line.choices[place + 1 :]),
        )
        for likeness, line in first.items()
    ]


def _kind_of_value(value: Any) -> object:
    """What values have in common that can stand in one set: any and ``me`` stand alone."""
    if not isinstance(value, tuple):
        return value is None
    length = value[0]
    if isinstance(length, Listed):
        return length.name
    return length if length in (0, ME) else "some"


def _is_asked(field: Field, value: Any) -> bool:
    return _width(field, value, Family.IPV4) != (ANY_PORT_WIDTH if field.kind is Kind.RANGE else 0)


def _width(field: Field, value: Any, family: Family) -> int:
    """What ``narrowness`` takes for a value of a field."""
    if field.kind is Kind.PREFIX:
        length = value[0]
        if isinstance(length, Listed):
            return length.length
        return family.bits if length == ME else int(length)
    if field.kind is Kind.RANGE:
        return ANY_PORT_WIDTH if value is None else int(value[1] - value[0] + 1)
    return int(value is not None) if field.kind is Kind.NUMBER else int(bool(value))
