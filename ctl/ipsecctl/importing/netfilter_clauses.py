"""Owns making ordered clauses of netfilter's chains; must not know how packets are judged by them.

Chains are written out where they are jumped to. A return, and the accept of a base chain that is
not the last of its hook, mean that the rest of something else decides: that is written out again,
for just these packets, which is right because the first clause that holds a packet decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ipsecctl.importing.netfilter import (
    BaseChain,
    ChainRule,
    Condition,
    Ruleset,
    Target,
    reached,
)
from ipsecctl.importing.regions import (
    ANYTHING,
    Dim,
    Region,
    Spans,
    complement,
    full,
    holds,
    meet,
)
from ipsecctl.importing.source import Clause, Hook, Kind, Line, Note, Ordered, State
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

MAX_CLAUSES = 100_000
MAX_DEPTH = 100
"""Chains that are left by returns, one after the other: each is a part of Python's stack."""
AS_OF_STATE = "it passes where a new connection does, and the receiver refuses it"
BY_HAND = "write a rule by hand that says what is meant, or keep this one where it is"
NO_HAND_WORK = "nothing for neighbour discovery; permit anything else by its type and source"
_BLOCKS = {Target.DROP, Target.UNKNOWN}


@dataclass(frozen=True, slots=True)
class _Rest:
    """What decides when a chain has come to its end: rules, then the rest of that, or a policy."""

    rules: Sequence[ChainRule]
    at: int
    then: _Rest | _End


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a base chain: its policy, and the base chains of the hook that come after it."""

    base: BaseChain
    later: tuple[BaseChain, ...]
    to: Spans | None = None
    """The destinations that were asked for before routing, if any were."""


def ordered(rules: Ruleset) -> Ordered:
    """The rule set as ordered clauses, with notes for what is not in them."""
    notes: list[Note] = list(rules.notes)
    seen = _Seen()
    clauses: list[Clause] = []
    judged: set[tuple[Hook, Family]] = set()
    for hook in Hook:
        for family in Family:
            bases = sorted(
                (b for b in rules.bases if b.hook is hook and family in b.families),
                key=lambda base: base.priority,
            )
            if not bases:
                continue
            judged.add((hook, family))
            flat = _Flattened(rules, hook, family, notes, seen)
            clauses += flat.base(bases[0], tuple(bases[1:]), ANYTHING)
    notes += _behind(seen, rules)
    judged |= {(hook, family) for _, family in judged for hook in Hook}
    return Ordered(tuple(clauses), rules.links, frozenset(judged), tuple(dict.fromkeys(notes)))


@dataclass(slots=True)
class _Seen:
    """Where the writing out has come: rules by their lines, and jumps that were left out."""

    written: set[Line] = field(default_factory=set)
    left_out: dict[str, Line] = field(default_factory=dict)
    """By the chain that they lead to, the first of them."""


class _Flattened:
    """The clauses of one hook and IP version."""

    def __init__(
        self, rules: Ruleset, hook: Hook, family: Family, notes: list[Note], seen: _Seen
    ) -> None:
        self._rules = rules
        self._hook = hook
        self._family = family
        self._notes = notes
        self._seen = seen
        self._made = 0
        self._returning: dict[str, bool] = {}
        self._chains = {name: _without_last_return(each) for name, each in rules.chains.items()}
        self._depth = 0

    def base(
        self,
        base: BaseChain,
        later: tuple[BaseChain, ...],
        region: Region,
        to: Spans | None = None,
    ) -> Iterator[Clause]:
        """The clauses of a base chain and of those after it; `to` are its packets' destinations.

        They are given if they were asked for before routing.
        """
        end = _End(base, later, to)
        yield from self._walk(_Rest(self._chains[base.name], 0, end), region)

    def _walk(self, rest: _Rest | _End, region: Region) -> Iterator[Clause]:
        """The clauses that decide of all packets of a region from some place on."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LimitExceeded(
                "too many chains are left by a return, one after the other",
                "import the tables that block, without those of other programs",
            )
        yield from self._clauses(rest, region)
        self._depth -= 1

    def _clauses(self, rest: _Rest | _End, region: Region) -> Iterator[Clause]:
        if isinstance(rest, _End):
            line = rest.base.policy_line or Line("", 0, f"policy of {rest.base.name}")
            yield from self._decided(rest, region, rest.base.policy, line)
            return
        for at in range(rest.at, len(rest.rules)):
            rule = rest.rules[at]
            if rule.target is Target.CONTINUE:
                continue
            if self._is_left_out(rule):
                continue
            part = self._meet(rule, region, rest)
            if part is None:
                continue
            yield from self._rule(rule, part, _Rest(rest.rules, at + 1, rest.then))
            through = rule.target is Target.JUMP and not self._returns(rule.chain)
            if part == region and not through:
                return
        yield from self._walk(rest.then, region)

    def _rule(self, rule: ChainRule, part: Region, rest: _Rest) -> Iterator[Clause]:
        """The clauses of one rule, for the packets that it matches."""
        self._seen.written.add(rule.line)
        self._note_widened(rule)
        if rule.target in (Target.ACCEPT, Target.DROP):
            action = Action.PERMIT if rule.target is Target.ACCEPT else Action.BLOCK
            name = next((c.set_name for c in rule.conditions if c.set_name), "")
            yield from self._decided(_end_of(rest), part, action, rule.line, name)
        elif rule.target is Target.RETURN:
            yield from self._walk(rest.then, part)
        elif rule.target is Target.GOTO:
            yield from self._walk(_Rest(self._chains[rule.chain], 0, rest.then), part)
        elif self._returns(rule.chain):
            yield from self._walk(_Rest(self._chains[rule.chain], 0, rest), part)
        else:
            yield from self._inside(rule.chain, part, rest)

    def _inside(self, chain: str, part: Region, rest: _Rest) -> Iterator[Clause]:
        """A chain that nothing returns from: what it says nothing of goes on by itself."""
        for rule in self._chains[chain]:
            if rule.target is Target.CONTINUE or self._is_left_out(rule):
                continue
            inner = self._meet(rule, part, rest)
            if inner is not None:
                yield from self._rule(rule, inner, rest)

    def _returns(self, chain: str) -> bool:
        """Whether a packet can come out of a chain before its end, or by another chain's end."""
        if chain not in self._returning:
            self._returning[chain] = any(
                rule.target in (Target.RETURN, Target.GOTO)
                for name in reached(chain, self._chains)
                for rule in self._chains[name]
            )
        return self._returning[chain]

    def _decided(
        self, end: _End, region: Region, action: Action, line: Line, set_name: str = ""
    ) -> Iterator[Clause]:
        if action is Action.PERMIT and end.later:
            to = region.get(Dim.DESTINATION) if end.base.before_routing else end.to
            yield from self.base(end.later[0], end.later[1:], region, to)
            return
        self._made += 1
        if self._made > MAX_CLAUSES:
            raise LimitExceeded(
                f"the chains become more than {MAX_CLAUSES:,} steps when they are written out",
                "import the tables that block, without those of other programs",
            )
        wanted = region.get(Dim.DESTINATION)
        before = end.base.before_routing or (wanted is not None and wanted == end.to)
        yield Clause(
            *(self._hook, self._family, region, action, line, set_name), before_routing=before
        )

    def _is_left_out(self, rule: ChainRule) -> bool:
        """Whether something that a rule asks for cannot be said; it is noted."""
        of = next((c for c in rule.conditions if c.unknown), Condition())
        unknown = of.unknown
        if not unknown and rule.target is Target.UNKNOWN:
            unknown = "what it does with a packet is not known here"
        if not unknown:
            return False
        if rule.chain and not _decides(rule.chain, self._rules):
            return True
        if rule.chain:
            self._seen.left_out.setdefault(rule.chain, rule.line)
        self._notes.append(
            Note(
                rule.line,
                Kind.LEFT_OUT,
                unknown,
                NO_HAND_WORK if "hop limit" in unknown else of.hint or BY_HAND,
                weaker=_may_block(rule, self._rules),
            )
        )
        return True

    def _note_widened(self, rule: ChainRule) -> None:
        """Say what a rule matches here beside what it matches in the original."""
        for condition in rule.conditions:
            if condition.widened:
                blocks = rule.target is Target.DROP
                hint = "it is blocked where a new connection is" if blocks else AS_OF_STATE
                self._notes.append(
                    Note(rule.line, Kind.CHANGED, condition.widened, hint, weaker=not blocks)
                )

    def _meet(self, rule: ChainRule, region: Region, rest: _Rest) -> Region | None:
        """The part of a region that a rule matches, with what decides after its chain."""
        early = _end_of(rest).base.early
        for condition in rule.conditions:
            part = self._region(condition, early=early)
            met = None if part is None else meet(region, part)
            if met is None:
                return None
            region = met
        return region

    def _region(self, condition: Condition, *, early: bool) -> Region | None:
        if condition.family not in (None, self._family):
            return None
        if condition.dim is Dim.STATE and early:
            invalid = holds(condition.values, State.INVALID)
            return ANYTHING if invalid is not condition.negated else None
        if condition.dim is None:
            return ANYTHING
        values = condition.values
        links = len(self._rules.links.names)
        if condition.dim in (Dim.LINK, Dim.OUT_LINK):
            values = self._rules.link_spans(condition.links)
        if condition.negated:
            values = complement(values, full(condition.dim, self._family, links))
        if values == (full(condition.dim, self._family, links),):
            return ANYTHING
        return {condition.dim: values} if values else None


def _without_last_return(rules: Sequence[ChainRule]) -> Sequence[ChainRule]:
    """The rules without returns at the end, which they come to anyway."""
    until = len(rules)
    while until and rules[until - 1].target in (Target.RETURN, Target.CONTINUE):
        until -= 1
    return rules[:until]


def _behind(seen: _Seen, rules: Ruleset) -> Iterator[Note]:
    """Name the rules that no packet comes to any more, as a jump to them was left out."""
    for chain, jump in seen.left_out.items():
        for name in reached(chain, rules.chains):
            for rule in rules.chains[name]:
                if rule.target is not Target.CONTINUE and rule.line not in seen.written:
                    yield Note(
                        rule.line,
                        Kind.LEFT_OUT,
                        f"the rule that leads to it is left out: {jump.where}",
                        f"see what is said of {jump.where}; or write a rule by hand",
                        weaker=_may_block(rule, rules),
                    )


def _end_of(rest: _Rest | _End) -> _End:
    while isinstance(rest, _Rest):
        rest = rest.then
    return rest


def _decides(chain: str, rules: Ruleset) -> bool:
    """Whether anything in a chain ends the way of a packet."""
    return any(
        rule.target not in (Target.CONTINUE, Target.JUMP, Target.RETURN)
        for name in reached(chain, rules.chains)
        for rule in rules.chains[name]
    )


def _may_block(rule: ChainRule, rules: Ruleset) -> bool:
    """Whether leaving a rule out may let pass what it would stop."""
    if rule.target in (Target.JUMP, Target.GOTO):
        return any(
            inner.target in (*_BLOCKS, Target.RETURN)
            for name in reached(rule.chain, rules.chains)
            for inner in rules.chains[name]
        )
    return rule.target in (*_BLOCKS, Target.RETURN)
