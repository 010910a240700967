"""Owns what can be done to ordered lists of clauses without a change of what they decide.

Must not know what filters can say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from ipsecctl.importing.regions import Dim, Spans, common, holds, spans
from ipsecctl.importing.source import Clause
from ipsecd.errors import LimitExceeded

MAX_CLAUSES = 50_000
MOST_ALIKE = 8
"""As many rules that differ in an address alone stay rules of their own."""

Clauses = list[Clause]


def without(clause: Clause, dim: Dim) -> Clause:
    """The clause with no limit in a dimension."""
    return replace(clause, region={d: s for d, s in clause.region.items() if d is not dim})


def limited(clause: Clause, dim: Dim, some: Spans) -> Clause | None:
    """The part of a clause that is in some values of a dimension; None if there is none."""
    if dim not in clause.region:
        return replace(clause, region={**clause.region, dim: some})
    both = common(clause.region[dim], some)
    return replace(clause, region={**clause.region, dim: both}) if both else None


def restricted(clauses: Iterable[Clause], dim: Dim, number: int) -> Clauses:
    """The list as it is for one value of a dimension, without the dimension."""
    kept = (c for c in clauses if dim not in c.region or holds(c.region[dim], number))
    return reachable(without(clause, dim) for clause in kept)


def reachable(clauses: Iterable[Clause]) -> Clauses:
    """The list up to the first clause that holds every packet, without what makes no difference."""
    found: Clauses = []
    seen: set[tuple[object, ...]] = set()
    for clause in clauses:
        key = key_of(clause)
        if key not in seen:
            seen.add(key)
            found.append(clause)
        if len(found) > MAX_CLAUSES:
            raise LimitExceeded(
                f"the rules become more than {MAX_CLAUSES:,} steps",
                "import the parts that matter, or make a list of addresses that share a rule",
            )
        if not clause.region:
            break
    return effective(found)


def effective(clauses: Clauses) -> Clauses:
    """The list without the clauses right before its last that only say what that says anyway."""
    if not clauses or clauses[-1].region:
        return clauses
    last = clauses[-1]
    until = len(clauses) - 1
    while until and clauses[until - 1].action is last.action:
        until -= 1
    return [*clauses[:until], last]


def key_of(clause: Clause) -> tuple[object, ...]:
    """What two clauses have in common that hold the same packets."""
    return tuple(sorted(clause.region.items()))


def same(one: Sequence[Clause], other: Sequence[Clause]) -> bool:
    """Whether two lists say the same, step by step."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        a.action is b.action and key_of(a) == key_of(b) for a, b in pairs
    )


def gathered(clauses: Iterable[Clause]) -> Clauses:
    """The list with many clauses put together that differ in their source alone, in one run.

    Thousands of bans are a list of addresses, and not thousands of rules.
    """
    found: Clauses = []
    for _, run in groupby(clauses, key=lambda clause: clause.action):
        groups: dict[tuple[object, ...], Clauses] = {}
        for clause in run:
            limited_by_source = Dim.SOURCE in clause.region
            key = (limited_by_source, key_of(without(clause, Dim.SOURCE)))
            groups.setdefault(key, []).append(clause)
        for members in groups.values():
            if len(members) <= MOST_ALIKE or Dim.SOURCE not in members[0].region:
                found += members
                continue
            line = members[0].line
            more = f"{line.text} (and {len(members) - 1:,} more like it)"
            together = spans(span for one in members for span in one.region[Dim.SOURCE])
            found.append(
                replace(
                    members[0],
                    region={**members[0].region, Dim.SOURCE: together},
                    line=replace(line, text=more),
                    also=tuple(each for one in members for each in (one.line, *one.also)),
                )
            )
    return found


def merged(
    clauses: Iterable[Clause], dims: Sequence[Dim], whole: Callable[[Dim], Spans]
) -> Clauses:
    """The list with clauses put together that differ in one of `dims` alone.

    They stand in a run of one action, where order has no meaning.
    """
    found: Clauses = []
    for _, run in groupby(clauses, key=lambda clause: clause.action):
        kept = list(run)
        for dim in dims:
            by_rest: dict[tuple[object, ...], int] = {}
            joined: Clauses = []
            for clause in kept:
                rest = key_of(without(clause, dim))
                at = by_rest.get(rest)
                if at is None or dim not in clause.region:
                    by_rest.setdefault(rest, len(joined))
                    joined.append(clause)
                elif dim in joined[at].region:
                    both = spans((*joined[at].region[dim], *clause.region[dim]))
                    into = joined[at]
                    joined[at] = replace(
                        into,
                        region={**into.region, dim: both},
                        also=(*into.also, clause.line, *clause.also),
                    )
            kept = [
                without(c, dim) if dim in c.region and c.region[dim] == whole(dim) else c
                for c in joined
            ]
        found += kept
    return found
