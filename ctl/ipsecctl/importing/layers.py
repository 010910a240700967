"""Owns making an ordered list sayable: what filters cannot tell apart is put away.

A filter says "this link", not "any but this". So a list that asks for the rest is written twice:
for each link that it names, and, below that, for any link, as it is for one that is not named. What
a filter does not say at all is put away where it makes no difference, and else it is a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ipsecctl.importing.clause_lists import (
    Clauses,
    gathered,
    limited,
    merged,
    reachable,
    restricted,
    same,
    without,
)
from ipsecctl.importing.regions import (
    Dim,
    Links,
    Spans,
    complement,
    full,
    holds,
    spans,
)
from ipsecctl.importing.source import Cast, Clause, Hook, Kind, Note, State
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

ON_LOOPBACK = "what passes over lo is never filtered"
OF_STATES = {
    State.INVALID: "an invalid packet counts as one that opens a connection",
    State.UNTRACKED: "what is not tracked counts as what opens a connection",
    State.RELATED: "what is related to a connection counts as part of it",
}
"""What is said of states for which a policy has no word."""
LOOPBACK_ADDRESS = {Family.IPV4: 0x7F000001, Family.IPV6: 1}
MOST_NUMBERS = 16
"""As many protocols as a clause may name one by one."""
_MULTICAST: dict[Family, Spans] = {
    Family.IPV4: ((0xE0000000, 0xEFFFFFFF),),
    Family.IPV6: ((0xFF << 120, (1 << 128) - 1),),
}
_CASTS = {
    Hook.IN: ((0, 2),),
    Hook.OUT: ((0, 3),),
    Hook.FORWARD: ((3, 3),),
}
"""Which casts a packet can have: what is delivered here is not for others, and the other way."""

Notes = list[Note]


class Layered:
    """The list of one hook and family, being made sayable; what is lost becomes notes."""

    def __init__(
        self,
        hook: Hook,
        family: Family,
        links: Links,
        networks: dict[str, Spans],
        own: Iterable[tuple[Family, int]],
        notes: Notes,
    ) -> None:
        self.hook = hook
        self.family = family
        self.links = links
        self.networks = networks
        self.own = [LOOPBACK_ADDRESS[family], *(value for of, value in own if of is family)]
        self.notes = notes

    def run(self, clauses: Sequence[Clause]) -> tuple[Clauses, Clauses | None]:
        """The list for packets that open a connection; and for those that are part of one.

        The second is None if one list is for both.
        """
        self._note_loopback(clauses)
        kept = [c for clause in clauses if (c := self._off_loopback(clause))]
        kept = gathered(reachable(kept))
        kept = merged(kept, (Dim.OUT_LINK, Dim.CAST, Dim.STATE), self._whole)
        kept = self._casts(kept)
        kept = [c for clause in kept for c in self._out_link(clause)]
        opening, known = self._states(reachable(kept))
        opening = self._rest(opening)
        return opening, known if known is None else self._rest(known)

    def _whole(self, dim: Dim) -> Spans:
        if dim is Dim.CAST:
            return _CASTS[self.hook]
        if dim is Dim.OUT_LINK:
            return ((1, len(self.links.names) - 1),)
        return (full(dim, self.family),)

    def _note_loopback(self, clauses: Sequence[Clause]) -> None:
        """Say what is blocked on lo, where a policy blocks nothing."""
        if self.hook is Hook.FORWARD:
            return
        for clause in restricted(clauses, Dim.LINK, 0):
            reaches = all(
                any(holds(clause.region[dim], address) for address in self.own)
                for dim in (Dim.SOURCE, Dim.DESTINATION)
                if dim in clause.region
            )
            if clause.action is Action.BLOCK and reaches:
                self._note(
                    clause,
                    ON_LOOPBACK,
                    "keep this rule where it is, if programs of this host must not reach each "
                    "other",
                    Kind.CHANGED,
                )

    def _off_loopback(self, clause: Clause) -> Clause | None:
        """What is not on lo."""
        kept = clause
        for dim in (Dim.LINK, Dim.OUT_LINK):
            others = ((1, len(self.links.names) - 1),)
            if dim not in kept.region:
                continue
            rest = limited(kept, dim, others)
            if rest is None:
                return None
            kept = without(rest, dim) if rest.region[dim] == others else rest
        if Dim.CAST in kept.region:
            both = limited(kept, Dim.CAST, _CASTS[self.hook])
            if both is None:
                return None
            whole = both.region[Dim.CAST] == _CASTS[self.hook]
            kept = without(both, Dim.CAST) if whole else both
        return kept

    def _casts(self, clauses: Clauses) -> Clauses:
        """Put kinds of destinations away, where it makes no difference or addresses say it."""
        if not any(Dim.CAST in clause.region for clause in clauses):
            return clauses
        ((first, last),) = _CASTS[self.hook]
        lists = [restricted(clauses, Dim.CAST, cast) for cast in range(first, last + 1)]
        if all(same(lists[0], one) for one in lists[1:]):
            return lists[0]
        kept: Clauses = []
        for clause in clauses:
            cast = clause.region.get(Dim.CAST)
            if cast is None:
                kept.append(clause)
            elif cast == ((Cast.MULTICAST, Cast.MULTICAST),):
                to = limited(without(clause, Dim.CAST), Dim.DESTINATION, _MULTICAST[self.family])
                kept += [to] if to else []
            elif holds(cast, Cast.LOCAL) and clause.action is Action.BLOCK:
                self._note(
                    clause,
                    "a policy does not tell this host's own address from a broadcast",
                    "it blocks both here; permit the broadcast by its address",
                    Kind.CHANGED,
                    weaker=False,
                )
                kept.append(without(clause, Dim.CAST))
            else:
                self._note(
                    clause,
                    "a policy does not tell this host's own address from a broadcast",
                    "name the broadcast address itself in a rule",
                    weaker=clause.action is Action.BLOCK,
                )
        return kept

    def _out_link(self, clause: Clause) -> Iterator[Clause]:
        """Say where a packet goes out by its destination, where the networks are known."""
        wanted = clause.region.get(Dim.OUT_LINK)
        if wanted is None:
            yield clause
            return
        named = [name for name in self.links.names[1:] if name in self.networks]
        everything = spans(s for name in named for s in self.networks[name])
        to: list[tuple[int, int]] = []
        for at, name in enumerate(self.links.names):
            if not at or not holds(wanted, at):
                continue
            if at == 1:
                to += complement(everything, full(Dim.DESTINATION, self.family))
            elif name in self.networks:
                to += self.networks[name]
            else:
                break
        else:
            if holds(wanted, 1) and len(named) < len(self.links.names) - 2:
                to = []
            both = to and limited(without(clause, Dim.OUT_LINK), Dim.DESTINATION, spans(to))
            if both:
                yield both
            if to:
                return
        self._note(
            clause,
            "a packet is judged when it arrives, and the link that it goes out by is not known yet",
            "say which addresses are behind the link: --network LINK=PREFIX",
            weaker=clause.action is Action.BLOCK,
        )

    def _states(self, clauses: Clauses) -> tuple[Clauses, Clauses | None]:
        """The list for what opens a connection and for what is part of one, if they differ."""
        if not any(Dim.STATE in clause.region for clause in clauses):
            return clauses, None
        for clause in clauses:
            self._note_states(clause)
        return (
            restricted(clauses, Dim.STATE, State.NEW),
            restricted(clauses, Dim.STATE, State.ESTABLISHED),
        )

    def _note_states(self, clause: Clause) -> None:
        states = clause.region.get(Dim.STATE)
        if states is None:
            return
        blocks = clause.action is Action.BLOCK
        new, invalid, untracked, established, related = (holds(states, state) for state in State)
        if invalid and not new:
            self._note(
                clause,
                OF_STATES[State.INVALID],
                "what is permitted to open one is permitted to them too, and nothing else is",
                weaker=blocks,
            )
        elif new and not invalid:
            self._note(
                clause,
                OF_STATES[State.INVALID],
                "it is blocked where a new connection is"
                if blocks
                else "it passes where a new connection does, and the receiver refuses it",
                Kind.CHANGED,
                weaker=not blocks,
            )
        elif untracked != new:
            self._note(
                clause,
                OF_STATES[State.UNTRACKED],
                "block or permit it by its addresses and ports",
                Kind.CHANGED if new else Kind.LEFT_OUT,
                weaker=blocks is not new,
            )
        if established != related:
            self._note(
                clause,
                OF_STATES[State.RELATED],
                "nothing, unless the two must be told apart",
                Kind.CHANGED if established else Kind.LEFT_OUT,
                weaker=blocks != established,
            )

    def _rest(self, clauses: Clauses) -> Clauses:
        """Say links and protocols that are "any but" by layers."""
        return self._protocols(self._links(reachable(clauses)))

    def _links(self, clauses: Clauses) -> Clauses:
        asked = [c.region[Dim.LINK] for c in clauses if Dim.LINK in c.region]
        if not any(holds(some, 1) for some in asked):
            return clauses
        layers: list[Clauses] = []
        lists = {"": restricted(clauses, Dim.LINK, 1)}
        # From the widest to the narrowest: a list that is that of a wider pattern is said already.
        pairs = list(zip(self.links.patterns, self.links.samples, strict=True))
        for pattern, sample in reversed(pairs):
            lists[pattern] = restricted(clauses, Dim.LINK, sample)
            around = (one for one in reversed(lists) if one != pattern and _lies_in(pattern, one))
            if not same(lists[pattern], lists[next(around)]):
                meant = self.links.matching(pattern)
                layers.append(
                    [c for each in lists[pattern] if (c := limited(each, Dim.LINK, meant))]
                )
        return [c for layer in reversed(layers) for c in layer] + lists[""]

    def _protocols(self, clauses: Clauses) -> Clauses:
        numbers = {
            number
            for c in clauses
            for first, last in _few(c.region.get(Dim.PROTOCOL, ()))
            for number in range(first, last + 1)
        }
        if all(_count(c.region.get(Dim.PROTOCOL, ())) <= MOST_NUMBERS for c in clauses):
            return clauses
        layers: Clauses = []
        for number in sorted(numbers):
            one = ((number, number),)
            layers += [c for each in clauses if (c := limited(each, Dim.PROTOCOL, one))]
        unnamed = next(number for number in range(143, 253) if number not in numbers)
        return [*layers, *restricted(clauses, Dim.PROTOCOL, unnamed)]

    def _note(
        self,
        clause: Clause,
        reason: str,
        hint: str,
        kind: Kind = Kind.LEFT_OUT,
        *,
        weaker: bool = True,
    ) -> None:
        for line in (clause.line, *clause.also):
            self.notes.append(Note(line, kind, reason, hint, weaker))


def _lies_in(pattern: str, wider: str) -> bool:
    """Whether all links of a pattern are links of a wider one; "" is any link."""
    return not wider or (wider.endswith("*") and pattern.startswith(wider[:-1]))


def _count(some: Spans) -> int:
    return sum(last - first + 1 for first, last in some)


def _few(some: Spans) -> Spans:
    """The numbers that are named: of "any but" those that are not meant."""
    return some if _count(some) <= MOST_NUMBERS else complement(some, (0, 255))
