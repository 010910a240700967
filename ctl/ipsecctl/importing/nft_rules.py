"""Owns the reading of one rule of nft; must not know tables, but for the sets that it is given.

A rule is matches and statements, one after the other. A map of verdicts is read as a rule for each
of its elements. What is not understood becomes a condition that is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ipsecctl.importing.netfilter import ChainRule, Condition, Target
from ipsecctl.importing.nft_elements import MAX_ELEMENTS, NamedSet, read_elements
from ipsecctl.importing.nft_values import FAMILIES, SELECTORS, Selector, UnknownWord, condition
from ipsecctl.importing.nft_words import Words
from ipsecctl.importing.source import Line
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.quoting import quote

_ENDS = {"accept": Target.ACCEPT, "drop": Target.DROP, "reject": Target.DROP,
         "return": Target.RETURN, "continue": Target.CONTINUE}  # fmt: skip
_JUMPS = {"jump": Target.JUMP, "goto": Target.GOTO}
_WHY = {
    "limit": "how many packets there were is not asked by a policy",
    "quota": "how many bytes there were is not asked by a policy",
    "flags": "a policy does not ask for flags of TCP",
    "mark": "a policy does not know marks",
    "skuid": "a policy knows senders by service:NAME or cgroup:/PATH, not by user",
    "skgid": "a policy knows senders by service:NAME or cgroup:/PATH, not by group",
    "hoplimit": "a policy does not ask for hop limits; neighbour discovery with hop limit 255 "
    "always passes",
    "ttl": "a policy does not ask for the time to live",
    "pkttype": "a policy does not ask how a packet came over the link; name the group's address",
}
_HARMLESS = frozenset({"counter", "log", "comment", "notrack"})
_ELSEWHERE = frozenset({"queue", "synproxy"})
"""Who else gets the packet decides about it."""
_FIELDS = frozenset({"meta", "ct", "ip", "ip6", "tcp", "udp", "th", "rt"})
_OPERATORS = frozenset({"&", "|", "^", "and", "or", "xor", "<<", ">>", ",", "map"})
_TRANSLATING = frozenset({"masquerade", "snat", "dnat", "redirect", "tproxy"})


@dataclass(slots=True)
class _Draft:
    """A rule while it is read: some may come of one line."""

    conditions: list[Condition] = field(default_factory=list)
    alternatives: list[tuple[tuple[Condition, ...], Target, str]] = field(default_factory=list)
    target: Target = Target.CONTINUE
    chain: str = ""


class RuleReader:
    """Reads the rules of one table, whose sets are given."""

    def __init__(self, words: Words, sets: Mapping[str, NamedSet]) -> None:
        self._words = words
        self._sets = sets
        self._draft = _Draft()

    def read(self) -> Iterator[ChainRule]:
        """The rules that the next line says; raises ``InvalidInput`` with file and line."""
        words = self._words
        first = words.peek()
        self._draft = draft = _Draft()
        try:
            while not self._is_end():
                self._part()
        except InvalidInput as error:
            if error.source:
                raise
            raise words.wrong(error.message, first) from error
        last = words.peek(-1).line
        line = Line(words.file.path, first.line, words.text_of(first.line, last))
        for conditions, target, chain in draft.alternatives:
            yield ChainRule((*draft.conditions, *conditions), target, line, chain)
        if not draft.alternatives or draft.target is not Target.CONTINUE:
            yield ChainRule(tuple(draft.conditions), draft.target, line, draft.chain)

    def _is_end(self) -> bool:
        word = self._words.peek()
        return word.kind == "end" or (word.kind == "mark" and word.text == "}")

    def _part(self) -> None:
        """One match or statement."""
        words, draft = self._words, self._draft
        word = words.peek()
        if word.text in _ENDS and word.kind == "word":
            words.take()
            draft.target = _ENDS[word.text]
            self._skip()
        elif word.text in _JUMPS and word.kind == "word":
            words.take()
            draft.target, draft.chain = _JUMPS[word.text], words.take().text
        elif word.text in _TRANSLATING:
            draft.target = Target.ACCEPT
            self._skip()
        elif word.text in _ELSEWHERE and word.kind == "word":
            draft.target = Target.UNKNOWN
            self._skip()
        elif word.text in _HARMLESS:
            self._harmless()
        elif self._is_setting():
            self._setting()
        elif word.text == "fib" and words.peek(2).text == ".":
            self._route()
        elif not self._match():
            self._unknown()

    def _harmless(self) -> None:
        """Go over a statement that says nothing about what passes."""
        words = self._words
        name = words.take().text
        takes = {"counter": ("packets", "bytes", "name"),
                 "log": ("prefix", "level", "flags", "group", "snaplen", "queue-threshold"),
                 "comment": ()}.get(name, ())  # fmt: skip
        if name == "comment":
            words.take()
        while words.peek().text in takes and words.peek().kind == "word":
            words.take()
            words.take()
            while words.peek().text == ",":
                words.take()
                words.take()
        if name == "counter" and words.peek().kind == "text":
            words.take()

    def _is_setting(self) -> bool:
        """Whether what comes sets something of the packet, or of a set, and asks nothing."""
        texts = [self._words.peek(ahead).text for ahead in range(6)]
        if texts[0] in ("add", "update", "delete") and texts[1].startswith("@"):
            return True
        if texts[:2] == ["flow", "add"]:
            return True
        return texts[0] in ("meta", "ct", "tcp", "ip", "ip6") and "set" in texts[2:5]

    def _setting(self) -> None:
        """Go over a setting alone: what is asked for behind it limits the rule as well."""
        words = self._words
        if words.peek().text in ("add", "update", "delete", "flow"):
            for _ in range(3 if words.peek().text == "flow" else 2):
                words.take()
            if words.peek().text == "{":
                words.skip_block()
            return
        while words.take().text != "set":
            pass
        self._value_set()
        while words.peek().text in _OPERATORS:
            words.take()
            self._value_set()

    def _value_set(self) -> None:
        """Go over a number, a name, a map, or a field, which is of two words."""
        words = self._words
        if words.peek().text == "{":
            words.skip_block()
        elif words.take().text in _FIELDS:
            words.take()

    def _route(self) -> None:
        """Go over ``fib saddr . iif oif missing`` and the like, whose parts are no fields."""
        words = self._words
        while words.peek().text != "" and not self._is_end():
            words.take()
            words.take()
            if words.peek().text != ".":
                break
        words.take()
        if words.peek().text in ("==", "!="):
            words.take()
        if words.peek().text == "vmap":
            self._unknown()
            return
        self._values()
        self._draft.conditions.append(Condition(unknown="a policy does not ask for routes"))

    def _skip(self) -> None:
        """Go over the rest of the rule, but for a verdict that ends it."""
        words = self._words
        while not self._is_end():
            if words.peek().text == "{":
                words.skip_block()
                continue
            if words.peek().text in _HARMLESS | set(_ENDS) | set(_JUMPS):
                return
            words.take()

    def _unknown(self) -> None:
        """Something that is not understood: it may be a match of any kind."""
        words = self._words
        texts: list[str] = []
        while not self._is_end():
            text = words.peek().text
            # Behind a dot stands a part of the same match.
            is_next = text in set(_ENDS) | set(_JUMPS) | _HARMLESS or self._selector()
            if texts and texts[-1] != "." and is_next:
                break
            if text == "{":
                words.skip_block()
                continue
            texts.append(words.take().text)
        reason = next((_WHY[text] for text in texts if text in _WHY), "")
        shown = quote(" ".join(texts))
        self._draft.conditions.append(
            Condition(unknown=reason or f"a policy has nothing like {shown}")
        )
        if "vmap" in texts:
            self._draft.target = Target.UNKNOWN

    def _selector(self) -> tuple[Selector, int] | None:
        """The field that comes next, and of how many words it is."""
        texts = tuple(self._words.peek(ahead).text for ahead in range(3))
        for length in (3, 2, 1):
            if texts[:length] in SELECTORS:
                return SELECTORS[texts[:length]], length
        return None

    def _match(self) -> bool:
        """Read a comparison of fields; False if there is none."""
        words = self._words
        names = (words.peek().text, words.peek(1).text)
        if names in FAMILIES:
            return self._family(FAMILIES[names])
        selectors: list[Selector] = []
        while found := self._selector():
            selector, length = found
            for _ in range(length):
                words.take()
            selectors.append(selector)
            if words.peek().text != ".":
                break
            words.take()
            if not self._selector():
                self._unknown()
                return True
        if not selectors:
            return False
        for selector in selectors:
            self._draft.conditions += selector.implied
        negated = False
        if words.peek().text in ("==", "!="):
            negated = words.take().text == "!="
        if words.peek().text == "vmap":
            words.take()
            self._verdicts(selectors, self._values())
            return True
        if words.peek().text in ("<", ">", "<=", ">=", "&", "|"):
            self._unknown()
            return True
        self._compare(selectors, self._values(), negated=negated)
        return True

    def _family(self, families: Mapping[str, object]) -> bool:
        words = self._words
        words.take()
        words.take()
        negated = words.peek().text == "!="
        if words.peek().text in ("==", "!="):
            words.take()
        texts = [text for text, _ in self._values().elements]
        from ipsecd.model.addresses import Family

        kept = [f for f in Family if (f in [families.get(text) for text in texts]) is not negated]
        if len(kept) == 1:
            self._draft.conditions.append(Condition(family=kept[0]))
        elif not kept:
            self._draft.conditions.append(
                Condition(unknown=f"{quote(', '.join(texts))} is no IP version")
            )
        return True

    def _values(self) -> NamedSet:
        """The values that a field is compared with."""
        words = self._words
        word = words.peek()
        if word.text.startswith("@") and word.kind == "word":
            words.take()
            named = self._sets.get(word.text[1:])
            if named is None:
                raise words.wrong(f"there is no set {quote(word.text[1:])}", word)
            return named
        if word.text == "{":
            return read_elements(words)
        return NamedSet([(text, ()) for text in self._plain_values()])

    def _plain_values(self) -> list[str]:
        """One value, or several with commas between; parts of a concatenation have dots."""
        words = self._words
        texts = [words.take().text]
        while words.peek().text in (",", "."):
            mark = words.take().text
            if mark == ".":
                texts[-1] += f" . {words.take().text}"
            else:
                texts.append(words.take().text)
        return texts

    def _compare(self, selectors: Sequence[Selector], named: NamedSet, *, negated: bool) -> None:
        try:
            if named.unknown:
                raise UnknownWord(named.unknown)  # noqa: TRY301 - as any other word
            if len(selectors) == 1:
                texts = [text for text, _ in named.elements]
                self._draft.conditions.append(condition(selectors[0], texts, negated=negated))
                return
            if negated:
                raise UnknownWord(  # noqa: TRY301 - as above
                    "a policy cannot say that several fields together are not in a set"
                )
            self._draft.alternatives += [
                (conditions, Target.CONTINUE, "") for conditions in _concatenated(selectors, named)
            ]
        except UnknownWord as error:
            self._draft.conditions.append(Condition(unknown=str(error)))
            return
        self._spread()

    def _spread(self) -> None:
        """Give the verdict that follows to each alternative: the rule is written once for each."""
        alternatives, self._draft.alternatives = self._draft.alternatives, []
        while not self._is_end():
            self._part()
        target, chain = self._draft.target, self._draft.chain
        inner = self._draft.alternatives or [((), target, chain)]
        self._draft.alternatives = [
            ((*one, *other), then, to) for one, _, _ in alternatives for other, then, to in inner
        ]
        self._draft.target = Target.CONTINUE
        if len(self._draft.alternatives) > MAX_ELEMENTS:
            raise LimitExceeded(f"a rule is more than {MAX_ELEMENTS:,} rules", "")

    def _verdicts(self, selectors: Sequence[Selector], named: NamedSet) -> None:
        """A rule for each element of a map of verdicts."""
        try:
            if named.unknown:
                raise UnknownWord(named.unknown)  # noqa: TRY301 - as any other word
            for text, verdict in named.elements:
                conditions = _of_element(selectors, text)
                name = verdict[0] if verdict else ""
                if name in _JUMPS and len(verdict) > 1:
                    self._draft.alternatives.append((conditions, _JUMPS[name], verdict[1]))
                elif name in _ENDS:
                    self._draft.alternatives.append((conditions, _ENDS[name], ""))
                else:
                    raise UnknownWord("what the map says is not known here")  # noqa: TRY301
        except UnknownWord as error:
            self._draft.alternatives = []
            self._draft.conditions.append(Condition(unknown=str(error)))
            self._draft.target = Target.UNKNOWN


def _concatenated(
    selectors: Sequence[Selector], named: NamedSet
) -> Iterator[tuple[Condition, ...]]:
    for text, _ in named.elements:
        yield _of_element(selectors, text)


def _of_element(selectors: Sequence[Selector], text: str) -> tuple[Condition, ...]:
    parts = text.split(" . ")
    if text == "*":
        return ()
    if len(parts) != len(selectors):
        raise UnknownWord(f"{quote(text)} is not of as many parts as the fields")
    pairs = zip(selectors, parts, strict=True)
    return tuple(replace(condition(selector, [part], negated=False)) for selector, part in pairs)
