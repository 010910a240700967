"""Owns policies as audits and as the same blocks, in a backend, and what their rules count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ipsecd.backend.base import Backend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, Conditions, InForce, Origin

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
    """A backend with one policy after another, and what its rules count."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._volatile = Volatile()
        backend.apply(compile_filters([]), self._volatile)
        self._before: Counter[str] = Counter()
        self._dynamic: set[Origin] = set()

    def put(self, policy: Policy) -> None:
        """Put a policy in force, dynamic rules too."""
        self._change(self._volatile.change(remove=self._dynamic))
        self._dynamic = {each.origin for each in policy if each.origin.volatile}
        static = [each for each in policy if not each.origin.volatile]
        self._backend.apply(compile_filters(static, EXEMPT), self._volatile)
        added = rows_of([each for each in policy if each.origin.volatile])
        self._change(self._volatile.change(add=added))
        self._before = self._read()

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
