"""Owns the rules of netfilter as they were read: chains of rules with conditions; judges nothing.

It is what iptables, ufw and nft have in common, and all that the evaluator and the translator of
these share. Each condition is on one dimension, or it is one that cannot be known from a packet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ipsecctl.importing.regions import Dim, Links, Region, Spans, spans
from ipsecctl.importing.source import (
    Given,
    Hook,
    Kind,
    Line,
    Mention,
    Note,
)
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

MAX_DEPTH = 32
"""Jumps within jumps; the kernel's own limit is 16 for nft (NFT_JUMP_STACK_SIZE)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule asks of one dimension: one of the values, or with ``negated`` none of them.

    ``family`` limits the values of addresses, and alone it asks for the IP version. ``links`` are
    patterns. Without a dimension and a family it is a condition that is not known: ``unknown`` says
    why, and ``hint`` what to do about it if anything is better than a rule by hand. Or ``widened``
    says which packets match here and do not in the original. ``set_name`` is the name of the set
    that the addresses come from.
    """

    dim: Dim | None = None
    values: Spans = ()
    negated: bool = False
    family: Family | None = None
    links: tuple[str, ...] = ()
    unknown: str = ""
    hint: str = ""
    widened: str = ""
    set_name: str = ""


class Target(Enum):
    """What a rule does with the packets that it matches."""

    ACCEPT = "accept"
    DROP = "drop"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"
    CONTINUE = "continue"
    UNKNOWN = "unknown"
    """It may be anything, and then the rest of the chain is walked or not."""


@dataclass(frozen=True, slots=True)
class ChainRule:
    """One rule of a chain. ``chain`` is where a jump or goto goes to."""

    conditions: tuple[Condition, ...]
    target: Target
    line: Line
    chain: str = ""


CONNTRACK_PRIORITY = -200
"""Where connection tracking stands at prerouting and output (NF_IP_PRI_CONNTRACK)."""


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain that packets begin at. Chains of one hook are walked in the order of ``priority``.

    One that is ``early`` comes before connection tracking, where every packet is invalid
    (nft_ct_get_eval, conntrack_mt). One ``before_routing`` is walked by what is delivered here and
    by what passes through alike.
    """

    name: str
    hook: Hook
    families: frozenset[Family]
    priority: int
    policy: Action
    policy_line: Line | None = None
    early: bool = False
    before_routing: bool = False


@dataclass(frozen=True)
class Ruleset:
    """Everything that was read: chains by a name that is unique in it, and where packets begin."""

    chains: Mapping[str, tuple[ChainRule, ...]]
    bases: tuple[BaseChain, ...]
    given: Given
    notes: tuple[Note, ...] = ()
    rules: int = 0
    _links: list[Links] = field(default_factory=list, repr=False, compare=False)

    @property
    def links(self) -> Links:
        """The links that the rules tell apart."""
        if not self._links:
            self._links.append(
                Links.of(
                    name
                    for rules in self.chains.values()
                    for rule in rules
                    for condition in rule.conditions
                    for name in condition.links
                )
            )
        return self._links[0]

    def mentions(self) -> Iterator[Mention]:
        """What each rule that a packet can come to asks for."""
        for base in self.bases:
            for name in reached(base.name, self.chains):
                for rule in self.chains[name]:
                    yield from self._of_rule(rule, base)

    def _of_rule(self, rule: ChainRule, base: BaseChain) -> Iterator[Mention]:
        transport: dict[Dim, Spans] = {}
        for condition in rule.conditions:
            if condition.dim is Dim.PROTOCOL and not condition.negated:
                transport[Dim.PROTOCOL] = condition.values
        for condition in rule.conditions:
            region = self._region(condition)
            if region is None:
                continue
            for family in base.families:
                if condition.family in (None, family):
                    yield Mention(base.hook, family, {**transport, **region})

    def _region(self, condition: Condition) -> Region | None:
        if condition.dim is None:
            return None
        if condition.dim in (Dim.LINK, Dim.OUT_LINK):
            return {condition.dim: self.link_spans(condition.links)}
        return {condition.dim: condition.values}

    def link_spans(self, patterns: Iterable[str]) -> Spans:
        """The numbers of the links that patterns cover."""
        return spans(span for one in patterns for span in self.links.matching(one))


def reached(name: str, chains: Mapping[str, Sequence[ChainRule]]) -> list[str]:
    """The chains that packets can come to from one, with it."""
    found, known = [name], {name}
    for each in found:
        for rule in chains[each]:
            if rule.chain and rule.chain not in known:
                known.add(rule.chain)
                found.append(rule.chain)
    return found


def unreached(chains: Mapping[str, Sequence[ChainRule]], begin: Iterable[str]) -> Iterator[Note]:
    """Name the rules that no packet comes to: nothing leads there from where packets `begin`."""
    there = {name for each in begin for name in reached(each, chains)}
    for name, rules in chains.items():
        if name in there:
            continue
        for rule in rules:
            # What a program makes of its own stands in no line of a file, and nobody wrote it.
            if rule.line.number:
                yield Note(
                    rule.line,
                    Kind.LEFT_OUT,
                    "no jump leads to its chain, so no packet comes to it",
                    "nothing, or write it by hand if something else leads packets there",
                )


def circle(chains: Mapping[str, tuple[ChainRule, ...]]) -> ChainRule | None:
    """A rule that jumps back to where it was reached from, or too deep; None if there is none."""
    depth: dict[str, int] = {}

    def walk(name: str, above: tuple[str, ...]) -> tuple[int, ChainRule | None]:
        if name in depth:
            return depth[name], None
        most = 0
        for rule in chains[name]:
            if not rule.chain:
                continue
            if rule.chain in above or rule.chain == name or len(above) > MAX_DEPTH:
                return most, rule
            below, wrong = walk(rule.chain, (*above, name))
            if wrong:
                return most, wrong
            most = max(most, below + 1)
        depth[name] = most
        return most, None

    for name in chains:
        _, wrong = walk(name, ())
        if wrong:
            return wrong
    return None


def without_verdict(chains: Mapping[str, Sequence[ChainRule]], rejects: str) -> Iterator[Note]:
    """What rules do beside their verdicts: say once that nobody is answered, and what only writes.

    `rejects` is the word of a rule that answers whom it stops.
    """
    rules = [rule for each in chains.values() for rule in each]
    rejecting = [rule for rule in rules if f" {rejects}" in f" {rule.line.text}"]
    if rejecting:
        yield Note(
            rejecting[0].line,
            Kind.ASSUMED,
            "who is rejected gets no answer any more: a policy drops silently",
            "nothing, unless somebody waits for the answer",
        )
    for rule in rules:
        if rule.target is Target.CONTINUE:
            yield Note(
                rule.line,
                Kind.NO_BLOCKING,
                "it decides nothing about packets",
                "see what is dropped with ipsecctl monitor and ipsecctl drops",
            )
