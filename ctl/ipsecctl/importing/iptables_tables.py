"""Owns the tables of iptables while they are read, and at which hooks their chains stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ipsecctl.importing.netfilter import (
    CONNTRACK_PRIORITY,
    BaseChain,
    ChainRule,
    Ruleset,
    Target,
    circle,
    reached,
    unreached,
    without_verdict,
)
from ipsecctl.importing.source import Given, Hook, Kind, Line, Note
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.quoting import quote

MAX_RULES = 200_000
PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
"""Where the tables stand at a hook (include/uapi/linux/netfilter_ipv4.h)."""
HOOKS = {
    "PREROUTING": (Hook.IN, Hook.FORWARD),
    "INPUT": (Hook.IN,),
    "FORWARD": (Hook.FORWARD,),
    "OUTPUT": (Hook.OUT,),
    "POSTROUTING": (Hook.OUT, Hook.FORWARD),
}
BEFORE_ROUTING = "PREROUTING"
EARLY = ("PREROUTING", "OUTPUT")
"""The hooks that connection tracking stands at."""
_LATER = {"PREROUTING": 0, "INPUT": 1_000, "FORWARD": 1_000, "OUTPUT": 1_000, "POSTROUTING": 2_000}
"""What is added to priorities, as one hook follows the other on the way of a packet."""

Key = tuple[Family, str]


class Tables:
    """Chains by family and table, as they are declared and filled."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self._chains: dict[Key, dict[str, list[ChainRule]]] = {}
        self._policies: dict[tuple[Family, str, str], tuple[Action, Line]] = {}
        self._count = 0

    def begin(self, family: Family, table: str) -> None:
        """A table begins; what it has already stays."""
        if table not in PRIORITIES:
            raise InvalidInput(
                f"there is no table {quote(table)}", f"one of: {', '.join(PRIORITIES)}"
            )
        self._chains.setdefault((family, table), {})

    def declare(self, family: Family, table: str, chain: str, policy: str, line: Line) -> None:
        """An empty chain, with its policy if it has one."""
        self._chains[family, table][chain] = []
        if policy != "-":
            action = Action.PERMIT if policy == "ACCEPT" else Action.BLOCK
            self._policies[family, table, chain] = (action, line)

    def flush(self, family: Family, table: str, chain: str) -> None:
        """Empty a chain."""
        self._chains[family, table][chain] = []

    def is_own_chain(self, family: Family, table: str, name: str) -> bool:
        """Whether a table has a chain of this name that packets do not begin at."""
        return name in self._chains[family, table] and name not in HOOKS

    def add(
        self, family: Family, table: str, chain: str, rules: Sequence[ChainRule], at: int | None
    ) -> None:
        """Add rules to a chain, at the end or at a place."""
        chains = self._chains[family, table]
        if chain not in chains and chain not in HOOKS:
            raise InvalidInput(
                f"there is no chain {quote(chain)}", f"declare it before: :{chain} - [0:0]"
            )
        self._count += len(rules)
        if self._count > MAX_RULES:
            raise LimitExceeded(f"there are more than {MAX_RULES:,} rules", "import fewer")
        into = chains.setdefault(chain, [])
        into[len(into) if at is None else at : len(into) if at is None else at] = rules

    def ruleset(self) -> Ruleset:
        """All of it; raises ``InvalidInput`` where chains lead in circles or to nowhere."""
        chains: dict[str, tuple[ChainRule, ...]] = {}
        for (family, table), mine in self._chains.items():
            for name, rules in mine.items():
                chains[_name(family, table, name)] = tuple(
                    replace(rule, chain=_name(family, table, rule.chain)) if rule.chain else rule
                    for rule in rules
                )
        check_chains(chains)
        notes: list[Note] = []
        bases: list[BaseChain] = []
        for (family, table), mine in self._chains.items():
            for chain in mine:
                if chain in HOOKS:
                    bases += self._bases(family, table, chain, chains, notes)
        begin = [
            _name(family, table, chain)
            for (family, table), mine in self._chains.items()
            for chain in mine
            if chain in HOOKS
        ]
        notes += unreached(chains, begin)
        notes += without_verdict(chains, "REJECT")
        return Ruleset(chains, tuple(bases), self.given, tuple(notes), self._count)

    def _bases(
        self,
        family: Family,
        table: str,
        chain: str,
        chains: dict[str, tuple[ChainRule, ...]],
        notes: list[Note],
    ) -> Iterable[BaseChain]:
        """Where a chain that packets begin at stands; nothing if it never blocks."""
        name = _name(family, table, chain)
        action, line = self._policies.get((family, table, chain), (Action.PERMIT, None))
        rules = [rule for each in reached(name, chains) for rule in chains[each]]
        blocks = action is Action.BLOCK or any(
            rule.target in (Target.DROP, Target.UNKNOWN) for rule in rules
        )
        if table not in ("filter", "security") and (table == "nat" or not blocks):
            notes += [self._of_other_table(rule, table, family) for rule in rules]
            return
        for hook in HOOKS[chain]:
            priority = PRIORITIES[table] + _LATER[chain]
            yield BaseChain(
                *(name, hook, frozenset({family}), priority, action, line),
                early=chain in EARLY and PRIORITIES[table] < CONNTRACK_PRIORITY,
                before_routing=chain == BEFORE_ROUTING,
            )

    def _of_other_table(self, rule: ChainRule, table: str, family: Family) -> Note:
        words = rule.line.text.split()
        if table == "nat" and ("DNAT" in words or "REDIRECT" in words):
            open_input = self._policies.get((family, "filter", "INPUT"), (Action.PERMIT, None))[0]
            return Note(
                rule.line,
                Kind.LEFT_OUT,
                "a policy judges what arrives before it is sent on to another address",
                "permit or block the address and port that the packet arrives with, such as "
                "*=0:8080:TCP; the translation itself stays where it is",
                weaker=open_input is Action.PERMIT,
            )
        return Note(
            rule.line,
            Kind.NO_BLOCKING,
            f"the table {table} lets nothing pass and stops nothing here",
            "keep it where it is",
        )


def _name(family: Family, table: str, chain: str) -> str:
    return f"IPv{int(family)} {table} {chain}"


def check_chains(chains: dict[str, tuple[ChainRule, ...]]) -> None:
    """Raise ``InvalidInput`` where chains lead in circles or to nowhere."""
    for rules in chains.values():
        for rule in rules:
            if rule.chain and rule.chain not in chains:
                what = f"there is no chain {quote(rule.chain.rpartition(' ')[2])}"
                raise InvalidInput(
                    what, "declare it: :NAME - [0:0]", source=rule.line.file, line=rule.line.number
                )
    wrong = circle(chains)
    if wrong:
        raise InvalidInput(
            f"the chain {quote(wrong.chain.rpartition(' ')[2])} leads back to itself, or too deep",
            "give rules that a kernel would take",
            source=wrong.line.file,
            line=wrong.line.number,
        )
