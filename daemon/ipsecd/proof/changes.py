"""Owns what two sets of filters decide differently: proven, with a packet for every pair of rules.

Packets are those that ``explain`` takes: a forwarded one that leaves under an address of the host
is as it arrived, but for its source and its link. Nothing else is left out, so where no difference
is found, there is none. Every packet that is named was judged by ``decide`` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ipsecd.compiler.merge import merged_rows
from ipsecd.compiler.rows import rows_of
from ipsecd.model.addresses import Family
from ipsecd.model.decide import Decision, decide
from ipsecd.model.exemptions import Exemption
from ipsecd.model.list_names import with_lengths
from ipsecd.model.nearness import Nearness
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action, InForce
from ipsecd.proof.clauses import Rows, clauses_of, words_of
from ipsecd.proof.search import Budget, Found, find_changes
from ipsecd.proof.space import Space, Types

MAX_EXAMPLES = 200
"""How many pairs of rules have an example."""
MAX_TOLD_APART = 500
"""Of so many filters each is looked at by itself; of more, those of a rule together."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of a host decides about packets besides filters.

    ``types`` are its links; links that it does not have count too, with the types that their names
    tell. ``drop_unparsable`` is whether packets whose headers cannot be read are dropped.
    """

    host: Host = field(default_factory=Host)
    exemptions: tuple[Exemption, ...] = ()
    types: Types = field(default_factory=dict)
    drop_unparsable: bool = True


@dataclass(frozen=True, slots=True)
class Changed:
    """Packets of one IP version at one point that one pair of filters decides differently.

    Where there are many filters, those of a rule count as one.

    ``packet`` is one of them. What the decisions beat is left out.
    """

    packet: Packet
    before: Decision
    now: Decision


@dataclass(frozen=True, slots=True)
class Changes:
    """All that is decided differently; nothing is exactly where nothing is.

    ``more`` is how many pairs there are besides those with an example. ``unparsable`` is
    what becomes of packets whose headers cannot be read, before and now, if that changes.
    """

    examples: tuple[Changed, ...] = ()
    more: int = 0
    unparsable: tuple[Action, Action] | None = None

    def __bool__(self) -> bool:
        return bool(self.examples or self.unparsable)


def changes(
    before: Iterable[InForce], now: Iterable[InForce], surroundings: Surroundings
) -> Changes:
    """What the filters `now` decide differently from those `before`.

    Names in filters must be resolved. Raises ``Refused`` for a DNS name that is not, and
    ``LimitExceeded`` where a proof would take minutes.
    """
    before, now = deciding(before), deciding(now)
    unparsable = _unparsable(before, now) if surroundings.drop_unparsable else None
    if before == now:
        return Changes(unparsable=unparsable)
    host, exemptions = surroundings.host, surroundings.exemptions
    are_few = len(before) + len(now) <= MAX_TOLD_APART
    rows = tuple(
        rows_for(told_apart(filters) if are_few else filters, host) for filters in (before, now)
    )
    budget = Budget()
    pairs: list[tuple[Space, Found]] = []
    for space in spaces(rows, surroundings):
        clauses = clauses_of(space, rows[0], rows[1], exemptions)
        pairs += [(space, found) for found in find_changes(space, clauses, budget).values()]
    pairs.sort(key=lambda pair: pair[1].badness)
    packets = [space.packet(found.numbers) for space, found in pairs[:MAX_EXAMPLES]]
    examples = _judged(before, now, packets, surroundings)
    return Changes(tuple(examples), max(0, len(pairs) - MAX_EXAMPLES), unparsable)


def deciding(filters: Iterable[InForce]) -> tuple[InForce, ...]:
    """The filters that can decide: all but audits."""
    return tuple(one for one in filters if one.action is not Action.AUDIT)


def _judged(
    before: Sequence[InForce],
    now: Sequence[InForce],
    packets: Sequence[Packet],
    surroundings: Surroundings,
) -> Iterator[Changed]:
    """What becomes of each packet before and now."""
    pairs = (decided(filters, packets, surroundings) for filters in (before, now))
    for packet, first, second in zip(packets, *pairs, strict=True):
        if first.action is second.action:
            raise AssertionError(f"{packet} is decided as before, against what was proven")
        yield Changed(packet, first, second)


def decided(
    filters: Iterable[InForce], packets: Sequence[Packet], surroundings: Surroundings
) -> Iterator[Decision]:
    """What ``decide`` says of each packet, without what is beaten.

    It is asked about the filters that may match the packet.
    """
    near_any = Nearness(packets, names_count=True)
    near_some = [one for one in filters if near_any.has_both(one.filter)]
    for packet in packets:
        near = Nearness([packet], names_count=True)
        candidates = [one for one in near_some if near.has_both(one.filter)]
        decision = decide(candidates, packet, surroundings.host, surroundings.exemptions)
        yield replace(decision, beaten=())


def rows_for(filters: Iterable[InForce], host: Host) -> Rows:
    """The rows of filters on a host, without those that never decide as a block equals them."""
    return merged_rows(rows_of(with_lengths(filters, host.lists)))


def told_apart(filters: Iterable[InForce]) -> tuple[InForce, ...]:
    """The filters, each as if it were in a rule of its own, in the order of the rules."""
    return tuple(
        replace(one, origin=replace(one.origin, rule=f"{one.origin.rule}\0{number:09}"))
        for number, one in enumerate(filters)
    )


def spaces(states: Sequence[Rows], surroundings: Surroundings) -> Iterable[Space]:
    """All packets that filters can be asked about on a host."""
    words, host = words_of(states), surroundings.host
    for point in Point:
        for family in Family:
            # What leaves under an address of the host needs one.
            if point is not Point.LEAVING or any(of is family for of, _ in host.addresses):
                yield Space(family, point, host, words, surroundings.types)


def _unparsable(before: Sequence[InForce], now: Sequence[InForce]) -> tuple[Action, Action] | None:
    """They are dropped while anything is blocked."""
    first, second = (
        Action.BLOCK if any(one.action is Action.BLOCK for one in filters) else Action.PERMIT
        for filters in (before, now)
    )
    return None if first is second else (first, second)
