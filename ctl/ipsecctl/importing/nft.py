"""Owns reading what ``nft list ruleset`` prints; must not know what any rule does to packets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ipsecctl.importing.iptables_tables import BEFORE_ROUTING, EARLY, HOOKS, check_chains
from ipsecctl.importing.netfilter import (
    CONNTRACK_PRIORITY,
    BaseChain,
    ChainRule,
    Ruleset,
    reached,
    without_verdict,
)
from ipsecctl.importing.netfilter_source import Netfilter
from ipsecctl.importing.nft_elements import NamedSet, read_elements
from ipsecctl.importing.nft_rules import RuleReader
from ipsecctl.importing.nft_words import Word, Words
from ipsecctl.importing.source import Given, InputFile, Kind, Line, Note
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.quoting import quote

MAX_RULES = 200_000
_FAMILIES = {
    "ip": frozenset({Family.IPV4}),
    "ip6": frozenset({Family.IPV6}),
    "inet": frozenset(Family),
}
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50,
               "srcnat": 100}  # fmt: skip
_LATER = {"prerouting": 0, "input": 1_000, "forward": 1_000, "output": 1_000, "postrouting": 2_000}
_OWN_TABLE = ("inet", "ipsecd")
"""What the daemon enforces a policy with; a host that is moved over has it beside the others."""
_OBJECTS = frozenset({"flowtable", "counter", "quota", "limit", "secmark", "synproxy"})


def paths(argument: str) -> Sequence[str]:
    """The files that an argument stands for: itself."""
    return [argument]


def read(files: Sequence[InputFile], given: Given) -> Netfilter:
    """The tables of the files; raises ``InvalidInput`` with file and line."""
    reading = _Reading(given)
    for file in files:
        if file.text.lstrip().startswith("{"):
            raise InvalidInput(
                "this is JSON", "give what 'nft list ruleset' prints without -j",
                source=file.path, line=1,
            )  # fmt: skip
        reading.file(Words(file))
    return Netfilter(reading.ruleset())


class _Reading:
    """Everything that was read so far."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._chains: dict[str, list[ChainRule]] = {}
        self._bases: list[tuple[BaseChain, str]] = []
        self._notes: list[Note] = []
        self._count = 0

    def file(self, words: Words) -> None:
        """Read the tables of one file."""
        while True:
            words.skip_ends()
            if words.is_over:
                return
            word = words.take()
            if word.text == "table":
                self._table(words)
            elif word.text == "flush" and words.peek().text == "ruleset":
                words.take()
            else:
                raise words.wrong(f"{quote(word.text)} begins no table", word)

    def _table(self, words: Words) -> None:
        first = words.take()
        family = first.text if words.peek().text != "{" else "ip"
        name = words.take().text if words.peek().text != "{" else first.text
        if family not in _FAMILIES:
            self._leave_out(
                *(words, first, f"{family} {name}"),
                "only tables of the families ip, ip6 and inet are translated",
                weaker=True,
            )
            words.skip_block()
            return
        if (family, name) == _OWN_TABLE:
            self._leave_out(words, first, f"{family} {name}", "this is what ipsecd enforces")
            words.skip_block()
            return
        sets: dict[str, NamedSet] = {}
        opening = words.expect("{")
        while True:
            words.skip_ends()
            word = words.take()
            if word.text == "}" and word.kind == "mark":
                break
            if words.is_over:
                raise words.wrong("a table is never closed", opening)
            if word.text in ("set", "map"):
                of = words.peek().text
                sets[of] = self._set(words)
            elif word.text == "chain":
                self._chain(words, family, name, sets)
            elif word.text == "comment":
                words.take()
            elif word.text == "flags":
                if "dormant" in words.take_line():
                    self._leave_out(words, first, f"{family} {name}", "no rule of it is in force")
                    words.close_block(opening)
                    return
            elif word.text in _OBJECTS or word.text == "ct":
                while words.peek().text != "{" and words.peek().kind != "end":
                    words.take()
                words.skip_block()
            else:
                raise words.wrong(f"{quote(word.text)} is nothing that a table has", word)

    def _leave_out(
        self, words: Words, word: Word, name: str, reason: str, *, weaker: bool = False
    ) -> None:
        """Say that a table is left out; unless it is `weaker`, nothing is missing without it."""
        self._notes.append(
            Note(
                Line(words.file.path, word.line, f"table {name}"),
                Kind.LEFT_OUT if weaker else Kind.NO_BLOCKING,
                reason,
                "keep this table where it is",
                weaker=weaker,
            )
        )

    def _set(self, words: Words) -> NamedSet:
        """A set or map with its elements."""
        name = words.take()
        found = NamedSet()
        opening = words.expect("{")
        while True:
            words.skip_ends()
            word = words.take()
            if word.text == "}" and word.kind == "mark":
                return found
            if words.is_over:
                raise words.wrong("a set is never closed", opening)
            if word.text == "elements":
                words.expect("=")
                found.elements = read_elements(words).elements
                continue
            said = words.take_line()
            if word.text == "flags" and not {"dynamic", "timeout"}.isdisjoint(said):
                self._notes.append(
                    Note(
                        Line(words.file.path, name.line, f"set {name.text}"),
                        Kind.ASSUMED,
                        "this set changes by itself, and the policy has what was in it",
                        "have whatever fills it fill a list: ipsecctl list add",
                    )
                )

    def _chain(
        self,
        words: Words,
        family: str,
        table: str,
        sets: dict[str, NamedSet],
    ) -> None:
        """A chain with its rules."""
        word = words.take()
        name = f"{family} {table} {word.text}"
        if name in self._chains:
            raise words.wrong(f"there are two chains {quote(word.text)}", word)
        rules = self._chains[name] = []
        opening = words.expect("{")
        reader = RuleReader(words, sets)
        while True:
            words.skip_ends()
            if words.is_over:
                raise words.wrong("a chain is never closed", opening)
            if words.peek().text == "}":
                words.take()
                return
            if words.peek().text == "type" and words.peek(2).text in ("hook", "device"):
                self._hook(words, family, name)
                continue
            if words.peek().text == "policy" and words.peek().kind == "word":
                self._policy(words, name)
                continue
            if words.peek().text == "comment":
                words.take()
                words.take()
                continue
            before = len(rules)
            for rule in reader.read():
                chain = f"{family} {table} {rule.chain}" if rule.chain else ""
                rules.append(replace(rule, chain=chain))
            self._count += 1
            if len(rules) - before + self._count > MAX_RULES:
                raise LimitExceeded(f"there are more than {MAX_RULES:,} rules", "import fewer")

    def _hook(self, words: Words, family: str, name: str) -> None:
        """Where a base chain stands, as in ``type filter hook input priority filter - 10``."""
        line = words.peek().line
        said = words.take_line()
        if "hook" not in said or "priority" not in said or len(said) < 6:
            raise words.wrong("this says no place of a chain", Word("", "", line))
        hook, kind = said[3], said[1]
        place = "".join(said[said.index("priority") + 1 :])
        try:
            priority = _priority(place)
        except ValueError as error:
            raise words.wrong(f"{quote(place)} is no priority", Word("", "", line)) from error
        if hook not in _LATER:
            raise words.wrong(f"there is no hook {quote(hook)}", Word("", "", line))
        for at in HOOKS[hook.upper()]:
            base = BaseChain(
                *(name, at, _FAMILIES[family], priority + _LATER[hook], Action.PERMIT),
                early=hook.upper() in EARLY and priority < CONNTRACK_PRIORITY,
                before_routing=hook.upper() == BEFORE_ROUTING,
            )
            self._bases.append((base, kind))

    def _policy(self, words: Words, name: str) -> None:
        word = words.take()
        policy = words.take().text
        if policy not in ("accept", "drop"):
            raise words.wrong(f"{quote(policy)} is no policy of a chain", word)
        action = Action.BLOCK if policy == "drop" else Action.PERMIT
        line = Line(words.file.path, word.line, words.text_of(word.line, word.line))
        self._bases = [
            (replace(base, policy=action, policy_line=line), kind) if base.name == name
            else (base, kind)
            for base, kind in self._bases
        ]  # fmt: skip

    def ruleset(self) -> Ruleset:
        """All of it; raises ``InvalidInput`` where chains lead in circles or to nowhere."""
        chains = {name: tuple(rules) for name, rules in self._chains.items()}
        check_chains(chains)
        bases = []
        for base, kind in self._bases:
            if kind == "filter":
                bases.append(base)
            else:
                self._notes += self._no_blocking(chains, base, kind)
        self._notes += without_verdict(chains, "reject")
        notes = tuple(dict.fromkeys(self._notes))
        return Ruleset(chains, tuple(bases), self._given, notes, self._count)

    def _no_blocking(
        self, chains: dict[str, tuple[ChainRule, ...]], base: BaseChain, kind: str
    ) -> Iterable[Note]:
        for name in reached(base.name, chains):
            for rule in chains[name]:
                translates = " dnat " in rule.line.text or " redirect " in rule.line.text
                yield Note(
                    rule.line,
                    Kind.LEFT_OUT if translates else Kind.NO_BLOCKING,
                    "a policy judges what arrives before it is sent on to another address"
                    if translates
                    else f"a chain of type {kind} lets nothing pass and stops nothing here",
                    "permit or block the address and port that the packet arrives with, such as "
                    "*=0:8080:TCP; the translation itself stays where it is"
                    if translates
                    else "keep it where it is",
                    weaker=translates,
                )


def _priority(text: str) -> int:
    """A number, a name, or a name with a number added; raises ``ValueError``."""
    for name, number in _PRIORITIES.items():
        if text.startswith(name):
            rest = text.removeprefix(name)
            return number + (int(rest) if rest else 0)
    return int(text)
