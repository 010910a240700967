"""Owns the meaning of netfilter's chains for one packet: the independent reading of the rules.

It walks them as the kernel does (nf_hook_slow, ipt_do_table, nft_do_chain): base chains of a hook
in the order of their priorities, where an accept ends one of them and a drop all. It knows nothing
of the translation. Where a condition cannot be known from a packet, it goes both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ipsecctl.importing.netfilter import BaseChain, ChainRule, Condition, Ruleset, Target
from ipsecctl.importing.regions import Dim, covers, holds
from ipsecctl.importing.source import Decided, Judgement, Line, SourcePacket, State
from ipsecd.model.kinds import Action

_ENDS = {Target.ACCEPT: Action.PERMIT, Target.DROP: Action.BLOCK}

Outcomes = dict[Decided, None]


class Walker:
    """Judges packets by a rule set."""

    def __init__(self, rules: Ruleset) -> None:
        self._chains: Mapping[str, tuple[ChainRule, ...]] = rules.chains
        self._bases = sorted(rules.bases, key=lambda base: base.priority)

    def judge(self, packet: SourcePacket) -> Judgement:
        """What becomes of a packet at its hook."""
        tracked = _Walk(self._chains, packet)
        untracked = _Walk(self._chains, replace(packet, state=State.INVALID))
        drops: Outcomes = {}
        accepts: Outcomes = {Decided(Action.PERMIT, None): None}
        for base in self._bases:
            if base.hook is not packet.hook or packet.family not in base.families:
                continue
            outcomes = (untracked if base.early else tracked).base(base)
            drops |= {one: None for one in outcomes if one.action is Action.BLOCK}
            accepts = {one: None for one in outcomes if one.action is Action.PERMIT}
            if not accepts:
                break
        return Judgement((*drops, *accepts), tuple(untracked.unsure | tracked.unsure))


class _Walk:
    """The way of one packet."""

    def __init__(self, chains: Mapping[str, tuple[ChainRule, ...]], packet: SourcePacket) -> None:
        self._chains = chains
        self._packet = packet
        self.unsure: dict[Line, None] = {}

    def base(self, base: BaseChain) -> Outcomes:
        """All ends that a base chain can come to."""
        outcomes, falls = self._chain(base.name)
        if falls:
            outcomes[Decided(base.policy, base.policy_line)] = None
        return outcomes

    def _chain(self, name: str) -> tuple[Outcomes, bool]:
        """The ends that a chain can come to, and whether a packet can come out of it again."""
        outcomes: Outcomes = {}
        left = False
        for rule in self._chains[name]:
            matches = self._matches(rule)
            if matches is False or rule.target is Target.CONTINUE:
                continue
            inner, falls = self._taken(rule)
            if not inner and rule.target is Target.JUMP:
                # Nothing there ends the way of this packet, whether it goes there or not.
                continue
            outcomes |= inner
            if matches is None or rule.target is Target.UNKNOWN:
                # Both are possible: that it was so, and that the next rule is looked at.
                self.unsure[rule.line] = None
                left = left or (falls and rule.target is not Target.JUMP)
            elif rule.target is not Target.JUMP or not falls:
                return outcomes, left or falls
        return outcomes, True

    def _taken(self, rule: ChainRule) -> tuple[Outcomes, bool]:
        """The ends that a rule that matches leads to, and whether its chain may be left by it."""
        if rule.target in _ENDS:
            return {Decided(_ENDS[rule.target], rule.line): None}, False
        if rule.target is Target.UNKNOWN:
            return {Decided(action, rule.line): None for action in _ENDS.values()}, False
        if rule.target is Target.RETURN:
            return {}, True
        return self._chain(rule.chain)

    def _matches(self, rule: ChainRule) -> bool | None:
        """Whether a rule matches; None if that cannot be known."""
        unknown = False
        for condition in rule.conditions:
            if condition.unknown:
                unknown = True
            elif not self._holds(condition):
                return False
        return None if unknown else True

    def _holds(self, condition: Condition) -> bool:
        packet = self._packet
        if condition.family not in (None, packet.family):
            return False
        dim = condition.dim
        if dim is None:
            return True
        if dim in (Dim.LINK, Dim.OUT_LINK):
            name = packet.link if dim is Dim.LINK else packet.out_link
            found = any(covers(pattern, name) for pattern in condition.links)
            return found is not condition.negated
        number = _NUMBERS[dim](packet)
        if number is None:
            return False
        return holds(condition.values, number) is not condition.negated


_NUMBERS: dict[Dim, Callable[[SourcePacket], int | None]] = {
    Dim.SOURCE: lambda packet: packet.source,
    Dim.DESTINATION: lambda packet: packet.destination,
    Dim.PROTOCOL: lambda packet: packet.protocol,
    Dim.SOURCE_PORT: lambda packet: packet.source_port,
    Dim.DESTINATION_PORT: lambda packet: packet.destination_port,
    Dim.MESSAGE: lambda packet: packet.message,
    Dim.STATE: lambda packet: int(packet.state),
    Dim.CAST: lambda packet: int(packet.cast),
}
