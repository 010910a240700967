"""Owns the search through all packets of a space for those that clauses decide in some way.

It is exact. Dimension by dimension the numbers are cut where any clause begins or ends, and of
numbers that the same clauses hold, one stands for all. So what remains at the end is one packet for
every set of clauses that packets can match. Three things keep that short, and none leaves out what
is looked for:

1. Of clauses that match whatever comes in the dimensions that are left, the first in order keeps
   those behind it from deciding: they are dropped.
2. The same clauses in the same dimension are searched once.
3. Where no clause is left that the answer can depend on, nothing is searched.

Sets of clauses are numbers, a bit for each clause, the first in order lowest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ipsecd.errors import LimitExceeded
from ipsecd.model.values import Action, Origin
from ipsecd.proof.clauses import EXEMPT, Clause
from ipsecd.proof.space import Space
from ipsecd.proof.spans import Entries, Span, patterns, share

MAX_PIECES = 4_000_000
"""How many pieces of dimensions are looked at, at 1 to 5 µs each."""
_NONE = (1 << 32, 0)
_GOOD = 1
"""How bad the examples are that need not be bettered."""
_FEW = 64
"""Clauses of one state only, up to which every other clause is compared with each of them."""


class Budget:
    """How much may still be looked at until a search is given up."""

    def __init__(self, pieces: int = MAX_PIECES) -> None:
        self._left = pieces

    def spend(self, pieces: int = 1) -> None:
        """Raise ``LimitExceeded`` once too much was looked at."""
        self._left -= pieces
        if self._left < 0:
            raise LimitExceeded(
                "the filters overlap in too many ways for a proof: it would take minutes",
                "put filters that differ in one address or port only into one rule",
            )


Rules = tuple[Origin | None, Origin | None]
"""Which rule decides in the first and in the second of two states; None: no filter matches."""


@dataclass(frozen=True, slots=True)
class Found:
    """A packet, as numbers, and how bad an example it makes."""

    badness: int
    numbers: Mapping[str, int]


class _Arrangement:
    """The clauses of a space as bits, and how the space is cut by them."""

    def __init__(self, space: Space, clauses: Sequence[Clause], budget: Budget) -> None:
        self.space, self.budget = space, budget
        self.clauses = sorted(clauses, key=lambda clause: clause.order)
        lookers: dict[str, int] = {}
        for place, clause in enumerate(self.clauses):
            for name in clause.sets:
                lookers[name] = lookers.get(name, 0) | 1 << place
        # What leaves the fewest clauses together comes first: little is left to be cut again.
        together = {name: self._together(name, bits) for name, bits in lookers.items()}
        self.order = sorted(together, key=lambda name: (together[name], name))
        self.lookers = [lookers[name] for name in self.order]
        self.last = {dimension.name: dimension.last for dimension in space.dimensions}
        # The clauses that look at no dimension from each place on.
        self.whole = [(1 << len(self.clauses)) - 1]
        for looking in reversed(self.lookers):
            self.whole.insert(0, self.whole[0] & ~looking)

    def _together(self, name: str, looking: int) -> float:
        """How many clauses hold a piece of a dimension, on the average of its pieces."""
        changes: dict[int, int] = {}
        for place in _places(looking):
            spans = self.clauses[place].sets[name]
            # Of a list, only where it begins and ends: it counts as if it had no gaps.
            ends = [(spans[0][0], spans[-1][1])] if isinstance(spans, Entries) else spans
            for first, last in ends:
                changes[first] = changes.get(first, 0) + 1
                changes[last + 1] = changes.get(last + 1, 0) - 1
        held = len(self.clauses) - looking.bit_count()
        total = 0
        for start in sorted(changes):
            held += changes[start]
            total += held
        return total / len(changes)

    def those(self, wanted: Callable[[Clause], object]) -> int:
        """The bits of the clauses of which something is so."""
        return sum(1 << place for place, clause in enumerate(self.clauses) if wanted(clause))

    def numbers(self, chosen: Mapping[str, int]) -> dict[str, int]:
        """A number for every dimension: what was chosen, and else what makes a good example."""
        return {
            name: chosen[name] if name in chosen else self.space.choose(name, (0, last))[1]
            for name, last in self.last.items()
        }

    def pieces(self, place: int, active: int, wanted: int) -> dict[int, tuple[int, int]]:
        """For every set of clauses that holds some numbers of a dimension, the best of these.

        Only sets with a clause that is `wanted`. A number comes behind how bad an example it is.
        """
        name = self.order[place]
        looking = active & self.lookers[place]
        others = active & ~looking
        best: dict[int, tuple[int, int]] = {}
        for span, held in self._cut(name, looking, others, wanted):
            subset = held | others
            # Most examples are good enough, and choosing one takes longer than all the rest.
            if subset & wanted and best.get(subset, _NONE)[0] > _GOOD:
                best[subset] = min(best.get(subset, _NONE), self.space.choose(name, span))
        return best

    def _cut(self, name: str, looking: int, others: int, wanted: int) -> Iterator[tuple[Span, int]]:
        """The numbers of a dimension in pieces, each with the clauses of `looking` that hold it.

        What lists hold of a piece is left out where no clause that is `wanted` can be met.
        """
        changes: dict[int, int] = {}
        long: list[tuple[int, Sequence[Span]]] = []
        for place in _places(looking):
            bit, spans = 1 << place, self.clauses[place].sets[name]
            if isinstance(spans, Entries):
                long.append((bit, spans))
                continue
            self.budget.spend(len(spans))
            for first, last in spans:
                changes[first] = changes.get(first, 0) ^ bit
                changes[last + 1] = changes.get(last + 1, 0) ^ bit
        top = self.last[name]
        changes.setdefault(0, 0)
        changes.pop(top + 1, None)
        starts = sorted(changes)
        held = 0
        in_lists = sum(bit for bit, _ in long)
        for start, following in zip(starts, (*starts[1:], top + 1), strict=True):
            held ^= changes[start]
            span = start, following - 1
            if not long or not (held | in_lists | others) & wanted:
                yield span, held
                continue
            # Of the pieces that the same lists hold only the first is told, which may be a bad
            # example.
            good = [(number, number) for number in self.space.good(name, span)]
            for part in (*good, span):
                for piece, more in patterns(long, *part):
                    self.budget.spend()
                    yield piece, held | more


def _places(bits: int) -> Iterator[int]:
    """The places of the bits that are set, lowest first."""
    text = bin(bits)[:1:-1]
    place = text.find("1")
    while place >= 0:
        yield place
        place = text.find("1", place + 1)


def _lowest(bits: int) -> int:
    return bits & -bits


def find_changes(space: Space, clauses: Sequence[Clause], budget: Budget) -> dict[Rules, Found]:
    """For each pair of rules that decide differently before and now, a packet that they decide.

    If there is none, no packet of the space is decided differently: where the clause that decides
    is in both states, the action is the same. So only clauses of one state need to be looked at.
    """
    changed = [clause for clause in clauses if (clause.before is None) != (clause.now is None)]
    if not changed:
        return {}
    if len(changed) <= _FEW:
        clauses = [one for one in clauses if any(_meet(one, other) for other in changed)]
    arranged = _Arrangement(space, clauses, budget)
    before, now = (arranged.those(lambda c: c.before), arranged.those(lambda c: c.now))
    different = before ^ now
    blocks = arranged.those(lambda c: c.action is Action.BLOCK)
    found: dict[Rules, Found] = {}
    visited: set[tuple[int, int]] = set()
    depth = len(arranged.order)

    def visit(place: int, active: int, chosen: dict[str, int], badness: int) -> None:
        always = arranged.whole[place]
        in_first, in_second = (_until(active & side, always) for side in (before, now))
        active = in_first | in_second
        if not active & different or not active & blocks:
            return
        if not active & ~blocks and in_first & always and in_second & always:
            return
        while place < depth and not active & arranged.lookers[place]:
            place += 1
        if place == depth:
            by = _clause(arranged, in_first), _clause(arranged, in_second)
            if _action(by[0]) is not _action(by[1]):
                rules = by[0].before if by[0] else None, by[1].now if by[1] else None
                if rules not in found or badness < found[rules].badness:
                    found[rules] = Found(badness, dict(chosen))
            return
        if (place, active) in visited:
            return
        visited.add((place, active))
        name = arranged.order[place]
        pieces = arranged.pieces(place, active, different)
        budget.spend(len(pieces))
        for subset, (bad, number) in sorted(pieces.items(), key=lambda piece: piece[1]):
            visit(place + 1, subset, {**chosen, name: number}, badness + bad)

    visit(0, before | now, {}, 0)
    return {
        rules: Found(one.badness, arranged.numbers(one.numbers)) for rules, one in found.items()
    }


def find_deciders(space: Space, clauses: Sequence[Clause], budget: Budget) -> frozenset[Origin]:
    """The rules of the second state of which some packet of the space is decided by."""
    arranged = _Arrangement(space, clauses, budget)
    by_rule: dict[Origin, int] = {}
    for place, clause in enumerate(arranged.clauses):
        if clause.now not in (None, EXEMPT):
            by_rule[clause.now] = by_rule.get(clause.now, 0) | 1 << place
    missing = sum(by_rule.values())
    found: set[Origin] = set()
    visited: set[tuple[int, int]] = set()
    depth = len(arranged.order)

    def visit(place: int, active: int) -> None:
        nonlocal missing
        active = _until(active, arranged.whole[place])
        if not active & missing:
            return
        while place < depth and not active & arranged.lookers[place]:
            place += 1
        if place == depth:
            by = _clause(arranged, active)
            if by and by.now in by_rule:
                missing &= ~by_rule[by.now]
                found.add(by.now)
            return
        if (place, active) in visited:
            return
        visited.add((place, active))
        pieces = arranged.pieces(place, active, missing)
        budget.spend(len(pieces))
        for subset in pieces:
            visit(place + 1, subset)

    visit(0, (1 << len(arranged.clauses)) - 1)
    return frozenset(found)


def _until(bits: int, always: int) -> int:
    """The bits as far as the first that is in `always`: what comes behind it never decides."""
    last = _lowest(bits & always)
    return bits & (2 * last - 1) if last else bits


def _clause(arranged: _Arrangement, bits: int) -> Clause | None:
    """The clause that decides where these match; None if there is none."""
    return arranged.clauses[_lowest(bits).bit_length() - 1] if bits else None


def _action(clause: Clause | None) -> Action:
    return clause.action if clause else Action.PERMIT


def _meet(one: Clause, other: Clause) -> bool:
    """Whether some packets can match both, as far as single dimensions tell."""
    return all(
        share(spans, other.sets[name]) for name, spans in one.sets.items() if name in other.sets
    )
