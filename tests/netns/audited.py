"""Owns policies as audits and as the same blocks, in a backend, and what their rules count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ipsecd.backend.base import Backend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import ListName
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.list_names import with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Action, Conditions, InForce, Origin
from tests.equality.entries import Entry, counted_by

EXEMPT = tuple(exemption.name for exemption in ESSENTIALS)
PERMIT, BLOCK, AUDIT = Action.PERMIT, Action.BLOCK, Action.AUDIT

Policy = Sequence[InForce]


def rule(action: Action, text: str, conditions: Conditions | None = None) -> InForce:
    """A rule of the policy with one filter, that has the filter's text as its name."""
    asked = conditions or Conditions()
    return InForce(Origin("static", "P", text), parse_filter(text), action, asked)


def dynamic(action: Action, text: str) -> InForce:
    """A dynamic rule."""
    return replace(rule(action, text), origin=Origin("dynamic", "", text))


def as_blocks(policy: Policy) -> list[InForce]:
    return [replace(each, action=BLOCK) if each.action is AUDIT else each for each in policy]


def of_audits(policy: Policy, counts: Counter[str]) -> Counter[str]:
    names = {each.origin.rule for each in policy if each.action is AUDIT}
    return Counter({name: number for name, number in counts.items() if name in names})


class Enforced:
    """A backend with one policy after another, and what its rules and entries of lists count."""

    def __init__(self, backend: Backend, lists: Mapping[str, AddressList] | None = None) -> None:
        """Policies may name the `lists`, all of whose entries count."""
        self._backend = backend
        self._lists = {
            name: with_counting(each, counts=True) for name, each in (lists or {}).items()
        }
        self._entries_before: Counter[Entry] = Counter()
        self._policy: Policy = ()
        self._volatile = Volatile()
        backend.apply(compile_filters([]), self._volatile)
        self._before: Counter[str] = Counter()
        self._dynamic: set[Origin] = set()

    def put(self, policy: Policy) -> None:
        """Put a policy in force, dynamic rules too."""
        self._change(self._volatile.change(remove=self._dynamic))
        self._dynamic = {each.origin for each in policy if each.origin.volatile}
        dynamic_rules = [each for each in policy if each.origin.volatile]
        added = list(rows_of(with_lengths(dynamic_rules, self._lists)))
        following = Volatile()
        following.change(add=added)
        static = [each for each in policy if not each.origin.volatile]
        classifier = compile_filters(static, EXEMPT, lists=self._lists)
        self._backend.apply(classifier.with_lists(self._lists, following.tables), self._volatile)
        self._change(self._volatile.change(add=added))
        self._policy = policy
        self._before, self._entries_before = self._read(), counted_by(self._backend)

    def entries_are_right(self) -> bool:
        """Whether the entries of each list have counted what the rules that name it have."""
        entries, rules = Counter[str](), Counter[str]()
        for (name, *_), number in (counted_by(self._backend) - self._entries_before).items():
            entries[name] += number
        counted = self.counted()
        for each in self._policy:
            for end in (each.filter.source, each.filter.destination):
                if isinstance(end.address, ListName):
                    rules[end.address.name] += counted[each.origin.rule]
        return entries == rules

    def counted(self) -> Counter[str]:
        """How many packets each rule has counted since the policy was put in force."""
        return self._read() - self._before

    def _change(self, delta: Delta) -> None:
        if delta:
            self._backend.change(delta, self._volatile)

    def _read(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in self._backend.readings(()).now.values():
            counts.update({origin.rule: count.packets for origin, count in part.items()})
        tables = {table.id: table for table in self._volatile.tables}
        for (table, key), count in self._backend.volatile_counts().items():
            counts[(tables[table].find(key) or Origin("", "", "")).rule] += count.packets
        return counts
