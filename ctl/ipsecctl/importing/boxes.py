"""Owns filters while a translation is made: their rank, and what two of them have in common.

Must not know where they come from. What filters mean is said by ``ipsecd.model``: of the order of
precedence only that it grows with the narrowness of each field is used here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from ipsecctl.importing.source import Hook
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.model.precedence import ANY_PORT_WIDTH, Rank, rank

Span = tuple[int, int]


class CannotSay(Exception):
    """No filter matches just this; the text says why."""


class Networks:
    """Addresses as prefixes of one IP version: pairs of address and length in bits."""

    def __init__(self, family: Family, entries: Iterable[tuple[int, int]]) -> None:
        self.family = family
        self.entries: tuple[tuple[int, int], ...] = tuple(sorted(set(entries)))
        lengths = {length for _, length in self.entries}
        self.shortest, self.longest = min(lengths), max(lengths)
        self._lengths = sorted(lengths)

    @cached_property
    def _known(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.entries)

    @cached_property
    def span(self) -> Span:
        """From the first address to the last; what is between need not be among them."""
        last = max(address + (1 << self.family.bits - length) for address, length in self.entries)
        return self.entries[0][0], last - 1

    @property
    def are_hosts(self) -> bool:
        """Whether all of them are single addresses."""
        return self.shortest == self.family.bits

    @property
    def everything(self) -> bool:
        """Whether one of them is every address."""
        return self.shortest == 0

    def covering(self, entry: tuple[int, int]) -> list[tuple[int, int]]:
        """Those that hold all of an entry."""
        address, length = entry
        bits = self.family.bits
        found = []
        for shorter in self._lengths:
            if shorter > length:
                break
            size = bits - shorter
            if (address >> size << size, shorter) in self._known:
                found.append((address >> size << size, shorter))
        return found

    def inside(self, entry: tuple[int, int]) -> list[tuple[int, int]]:
        """Those that lie in an entry."""
        address, length = entry
        end = address + (1 << self.family.bits - length)
        at = bisect_left(self.entries, (address, 0))
        until = bisect_left(self.entries, (end, 0))
        return [one for one in self.entries[at:until] if one[1] >= length]

    def common(self, other: Networks) -> Networks | None:
        """What is in both; None if nothing is."""
        small, large = (self, other) if len(self.entries) <= len(other.entries) else (other, self)
        found: set[tuple[int, int]] = set()
        for entry in small.entries:
            if large.covering(entry):
                found.add(entry)
            found.update(large.inside(entry))
        return Networks(self.family, found) if found else None

    def within(self, other: Networks) -> bool:
        """Whether each of them is in one of the others."""
        return all(other.covering(entry) for entry in self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)


TOO_WIDE = (
    "a filter for several addresses, of which some may be this host's, is less specific than one "
    "for this host"
)
LEVEL = "it is as specific as a block of which it is a part, and of equals the block decides"
OF_RANK = frozenset({TOO_WIDE, LEVEL})
"""Why there is no filter that is specific enough: what stands below decides in its place, also
where a rule was left out because this one said the same."""

ME = None
"""Stands in the place of networks for this host."""

ALL_HOOKS = frozenset(Hook)


@dataclass(frozen=True, slots=True)
class Box:
    """Filters of one family that differ in their addresses alone, with the hook they are for.

    Ports and ``message`` are spans, None for any; ``link`` is a pattern, "" for any. ``source`` is
    ``ME`` only for OUT, ``destination`` only for IN.
    """

    hook: Hook
    family: Family
    source: Networks | None
    destination: Networks | None
    protocol: int | None = None
    source_ports: Span | None = None
    destination_ports: Span | None = None
    message: Span | None = None
    link: str = ""
    opening: bool = False

    @property
    def hooks(self) -> frozenset[Hook]:
        """Where the filters are looked at, whatever they are for."""
        if self.destination is ME:
            return frozenset({Hook.IN})
        return frozenset({Hook.OUT}) if self.source is ME else ALL_HOOKS

    @property
    def is_pure(self) -> bool:
        """Whether they are looked at nowhere but where they are for."""
        return self.hooks == {self.hook}

    def rank(self, action: Action, *, least: bool) -> Rank:
        """The least or the greatest rank that a match of one of them has."""
        bits = self.family.bits
        ends = [
            bits if end is ME else end.shortest if least else end.longest
            for end in (self.source, self.destination)
        ]
        return rank(
            {
                "source": ends[0],
                "destination": ends[1],
                "protocol": int(self.protocol is not None),
                "source_ports": _narrow(self.source_ports),
                "destination_ports": _narrow(self.destination_ports),
                "message": _narrow(self.message),
                "interface_type": 0,
                "interface_name": 2 * bool(self.link),
                "process": 0,
                "opening": int(self.opening),
            },
            protected=False,
            volatile=False,
            action=action,
        )


def _narrow(span: Span | None) -> int:
    return 0 if span is None else ANY_PORT_WIDTH - (span[1] - span[0] + 1)


def common_box(upper: Box, lower: Box, action: Action) -> Box | None:
    """Filters for `upper` that match what `lower` matches too, no less narrowly than either.

    None if no packet at the hook of `upper` is matched by both. Raises ``CannotSay`` if there are
    such packets and no filter for them.
    """
    if upper.family is not lower.family or upper.hook not in lower.hooks:
        return None
    if None not in (upper.protocol, lower.protocol) and upper.protocol != lower.protocol:
        return None
    try:
        ports = [
            _meet(getattr(upper, name), getattr(lower, name))
            for name in ("source_ports", "destination_ports", "message")
        ]
        link = _meet_links(upper.link, lower.link)
    except _Apart:
        return None
    same = upper.hook is lower.hook
    source = _meet_ends(upper.source, lower.source, same=same)
    destination = _meet_ends(upper.destination, lower.destination, same=same)
    if source is _APART or destination is _APART:
        return None
    if "wide" in (source, destination):
        raise CannotSay(TOO_WIDE)
    assert not isinstance(source, str)
    assert not isinstance(destination, str)
    both = replace(
        upper,
        source=source,
        destination=destination,
        protocol=upper.protocol if lower.protocol is None else lower.protocol,
        source_ports=ports[0],
        destination_ports=ports[1],
        message=ports[2],
        link=link,
        opening=upper.opening or lower.opening,
    )
    if same and action is Action.PERMIT and both != lower and _is_level(both, lower):
        raise CannotSay(LEVEL)
    return both


def _is_level(part: Box, whole: Box) -> bool:
    """Whether some packet is matched by both, of which one holds the other, at the same rank.

    An address of this host is as specific as this host, and a link by its name as by its beginning.
    """
    return (
        _end_is_level(part.source, whole.source)
        and _end_is_level(part.destination, whole.destination)
        and (part.protocol is None) == (whole.protocol is None)
        and all(
            _narrow(getattr(part, name)) == _narrow(getattr(whole, name))
            for name in ("source_ports", "destination_ports", "message")
        )
        and bool(part.link) == bool(whole.link)
        and part.opening == whole.opening
        and (part.link, part.source, part.destination)
        != (whole.link, whole.source, whole.destination)
        and not is_within(whole, part)
    )


def _end_is_level(part: Networks | None, whole: Networks | None) -> bool:
    if part is ME or whole is ME:
        ends = [end for end in (part, whole) if end is not ME]
        return all(end.longest == end.family.bits for end in ends)
    return any(
        max((length for _, length in whole.covering(entry)), default=-1) == entry[1]
        for entry in part.entries
    )


class _Apart(Exception):
    """Two boxes have nothing in common."""


_APART = "apart"


def _meet(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return one or other
    first, last = max(one[0], other[0]), min(one[1], other[1])
    if first > last:
        raise _Apart
    return first, last


def _meet_links(one: str, other: str) -> str:
    if not one or not other:
        return one or other
    for narrow, wide in ((one, other), (other, one)):
        if narrow == wide or (wide.endswith("*") and narrow.startswith(wide[:-1])):
            return narrow
    raise _Apart


def _meet_ends(
    upper: Networks | None, lower: Networks | None, *, same: bool
) -> Networks | str | None:
    """What two ends have in common: ``ME`` for this host, or "apart" or "wide" if that is no end.

    With `same` both are for one hook: a host that is named where packets are delivered or sent is
    one of this host's addresses.
    Any other network in a rule for what is forwarded may hold some of them: all of ``ME`` is as
    specific, and no packet that is not for this host comes into it.
    """
    if upper is ME or lower is ME:
        if upper is ME:
            return lower if same else ME
        assert upper is not None
        return upper if upper.are_hosts else "wide"
    return upper.common(lower) or _APART


def is_within(one: Box, other: Box) -> bool:
    """Whether all that `one` matches at its hook is matched by `other`, which is for the same."""
    return (
        one.family is other.family
        and one.hook is other.hook
        and _end_within(one.source, other.source)
        and _end_within(one.destination, other.destination)
        and other.protocol in (None, one.protocol)
        and all(
            _span_within(getattr(one, name), getattr(other, name))
            for name in ("source_ports", "destination_ports", "message")
        )
        and _link_within(one.link, other.link)
        and (one.opening or not other.opening)
    )


def _end_within(one: Networks | None, other: Networks | None) -> bool:
    if one is ME or other is ME:
        return other is ME or (other is not None and other.everything)
    return one.within(other)


def _span_within(one: Span | None, other: Span | None) -> bool:
    if other is None:
        return True
    return one is not None and other[0] <= one[0] and one[1] <= other[1]


def _link_within(one: str, other: str) -> bool:
    if not other or one == other:
        return True
    return other.endswith("*") and one.startswith(other[:-1])
