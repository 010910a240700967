"""Owns sets of packets as spans of numbers in dimensions; must not know rules or verdicts.

A span is a pair of the first and the last number, both included. Spans are sorted, disjoint and do
not adjoin. A dimension that a region does not name is any.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import product

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.model.addresses import Family, Network
from ipsecd.model.kinds import LinkName
from ipsecd.proof.spans import united

Span = tuple[int, int]
Spans = tuple[Span, ...]


class Dim(IntEnum):
    """What a region limits."""

    SOURCE = 0
    DESTINATION = 1
    PROTOCOL = 2
    SOURCE_PORT = 3
    DESTINATION_PORT = 4
    MESSAGE = 5
    """Type and code of ICMP as 16 bits."""
    LINK = 6
    """Where a packet comes in, or is sent: a number in ``Links``."""
    OUT_LINK = 7
    """Where a packet that passes through goes out."""
    STATE = 8
    CAST = 9


Region = Mapping[Dim, Spans]
ANYTHING: Region = {}


def full(dim: Dim, family: Family, links: int = 1) -> Span:
    """All numbers that there are in a dimension."""
    return {
        Dim.SOURCE: (0, (1 << family.bits) - 1),
        Dim.DESTINATION: (0, (1 << family.bits) - 1),
        Dim.PROTOCOL: (0, 255),
        Dim.STATE: (0, 4),
        Dim.CAST: (0, 3),
        Dim.LINK: (0, links - 1),
        Dim.OUT_LINK: (0, links - 1),
    }.get(dim, (0, 65535))


def spans(values: Iterable[Span]) -> Spans:
    """Spans of any order, which may overlap, as spans."""
    return tuple(united(values))


def common(one: Spans, other: Spans) -> Spans:
    """What is in both."""
    found: list[Span] = []
    at = 0
    for first, last in one:
        while at < len(other) and other[at][1] < first:
            at += 1
        here = at
        while here < len(other) and other[here][0] <= last:
            found.append((max(first, other[here][0]), min(last, other[here][1])))
            here += 1
    return tuple(found)


def complement(of: Spans, whole: Span) -> Spans:
    """What is in `whole` and not in `of`."""
    found: list[Span] = []
    at = whole[0]
    for first, last in of:
        if first > at:
            found.append((at, first - 1))
        at = max(at, last + 1)
    if at <= whole[1]:
        found.append((at, whole[1]))
    return tuple(found)


def holds(some: Spans, number: int) -> bool:
    """Whether a number is in spans."""
    at = bisect_right(some, (number, 1 << 129)) - 1
    return at >= 0 and number <= some[at][1]


def meet(one: Region, other: Region) -> Region | None:
    """What is in both regions; None if nothing is."""
    met = dict(one)
    for dim, some in other.items():
        both = common(met[dim], some) if dim in met else some
        if not both:
            return None
        met[dim] = both
    return met


def within(region: Region, other: Region) -> bool:
    """Whether all of `region` is in `other`."""
    return all(
        dim in region and common(region[dim], some) == region[dim] for dim, some in other.items()
    )


def networks_in(some: Spans, family: Family) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that are the same addresses, as address and length in bits."""
    for first, last in some:
        at = first
        while at <= last:
            size = min(
                (at & -at).bit_length() - 1 if at else family.bits, (last - at + 1).bit_length() - 1
            )
            yield at, family.bits - size
            at += 1 << size


def span_of(address: int, length: int, family: Family) -> Span:
    """The addresses of a prefix."""
    size = family.bits - length
    first = address >> size << size
    return first, first + (1 << size) - 1


def spans_of(networks: Iterable[Network]) -> Spans:
    """The addresses of networks of one IP version."""
    return spans(span_of(one.address, one.length, one.family) for one in networks)


LOOPBACK = "lo"


@dataclass(frozen=True)
class Links:
    """The links that rules tell apart, by one name for each class of them.

    ``names[0]`` is the loopback interface and ``names[1]`` a link that no rule names. A pattern is
    a name, or a beginning with ``*`` behind it; they are sorted so that one that lies in another
    comes before it. ``samples`` has for each pattern the number of a link that it is the nearest
    one for.
    """

    names: tuple[str, ...]
    patterns: tuple[str, ...]
    samples: tuple[int, ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Links:
        """The links that `patterns` tell apart."""
        wanted = sorted(
            {one for one in patterns if one not in ("", "*", LOOPBACK)},
            key=lambda one: (one.endswith("*"), -len(one), one),
        )
        names = [LOOPBACK, _fresh("", wanted)]
        samples = []
        for pattern in wanted:
            name = pattern
            if pattern.endswith("*"):
                name = _fresh(pattern.removesuffix("*"), wanted)
            if name not in names:
                names.append(name)
            samples.append(names.index(name))
        return cls(tuple(names), tuple(wanted), tuple(samples))

    def matching(self, pattern: str) -> Spans:
        """The numbers of the links that a pattern covers."""
        if not pattern.endswith("*"):
            at = self._numbers.get(pattern)
            return () if at is None else ((at, at),)
        return spans((at, at) for at, name in enumerate(self.names) if covers(pattern, name))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def _patterns_by_links(self) -> dict[Spans, str]:
        """Of patterns that cover the same links the first."""
        return {self.matching(pattern): pattern for pattern in reversed(self.patterns)}

    def pattern_for(self, some: Spans) -> str | None:
        """The pattern that covers just these links, of those that are filtered at all.

        "" is any link, None that no pattern does. Loopback is never filtered.
        """
        all_filtered = ((1, len(self.names) - 1),)
        wanted = common(some, all_filtered)
        return "" if wanted == all_filtered else self._patterns_by_links.get(wanted)


def can_be_said(pattern: str) -> bool:
    """Whether a rule of a policy can be for the links that a pattern covers; lo is none of them."""
    if pattern in ("*", LOOPBACK):
        return True
    try:
        LinkName(pattern)
    except InvalidInput:
        return False
    return True


def covers(pattern: str, name: str) -> bool:
    """Whether the link called `name` is meant by a pattern."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _fresh(beginning: str, patterns: Sequence[str]) -> str:
    """A name that begins so and that no longer pattern covers."""
    longer = [one for one in patterns if len(one.removesuffix("*")) > len(beginning)]
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    for first, second in product(("", *letters), letters):
        name: str = (beginning or "link") + first + second
        if not any(covers(one, name) for one in longer):
            return name
    raise LimitExceeded("there are too many names of links that begin alike", "import fewer rules")
