"""Owns dynamic rules as a script sees them; must not know how they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.rule_parameters import read_action
from ipsecd.model.values import check_name

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True)
class DynamicRule:
    """A dynamic rule in canonical text, and how many seconds it has left; None if it has no end."""

    name: str
    action: str
    filters: tuple[str, ...]
    interface: str | None = None
    when: str | None = None
    remaining_s: float | None = None
    by: str = ""
    created: float = 0.0

    @classmethod
    def made(
        cls,
        name: str,
        action: str,
        filters: list[str],
        interface: str | None = None,
        when: str | None = None,
        created: float = 0.0,
    ) -> DynamicRule:
        """One that a command makes; raises ``InvalidInput``."""
        texts = tuple(format_filter(parse_filter(text)) for text in filters)
        known = read_action(action).value
        conditions = parse_conditions(interface or None, when)
        check_name("rule", name)
        asked = conditions.interface_text, conditions.when
        return cls(name, known, texts, *asked, created=created)

    @classmethod
    def from_answer(cls, rule: dict[str, Any]) -> DynamicRule:
        """One as the daemon lists it."""
        members: dict[str, Any] = {key: rule.get(key) for key in cls.__slots__}
        members["filters"] = tuple(rule["filters"])
        return cls(**members)

    def answer(self) -> dict[str, Any]:
        """The rule as the daemon would list it."""
        members = {key: getattr(self, key) for key in self.__slots__}
        return {**members, "filters": [*self.filters], "names": None}

    def wanted(self) -> dict[str, Any]:
        """The rule as it is asked for."""
        members = {"name": self.name, "filters": [*self.filters], "action": self.action}
        conditions = {"interface": self.interface, "when": self.when}
        asked = {key: value for key, value in conditions.items() if value is not None}
        return {**members, "ttl_s": self.remaining_s, **asked}

    def is_same(self, other: DynamicRule | None) -> bool:
        """Whether another rule does the same, whoever made it and when."""
        if other is None or {*self.filters} != {*other.filters}:
            return False
        wanted = replace(self, by=other.by, created=other.created, filters=other.filters)
        return wanted == other


class DynamicRules:
    """The dynamic rules by name, in the order in which they were made."""

    def __init__(self, rules: list[DynamicRule]) -> None:
        self._rules: dict[str, DynamicRule] = {}
        self._last_number = 0
        for rule in rules:
            self.put(rule)
        self._loaded = dict(self._rules)

    def __iter__(self) -> Iterator[DynamicRule]:
        return iter(self._rules.values())

    def __len__(self) -> int:
        return len(self._rules)

    def get(self, name: str) -> DynamicRule | None:
        """The rule called `name`, if there is one."""
        return self._rules.get(name)

    def free_name(self) -> str:
        """A name that no rule has, as the daemon would give it."""
        names = map(_numbered, count(self._last_number + 1))
        return next(name for name in names if name not in self._rules)

    def put(self, rule: DynamicRule) -> None:
        """Have `rule` in the place of the one of its name.

        It keeps its place in the order if its filters are the same.
        """
        before = self._rules.get(rule.name)
        if before is None or before.filters != rule.filters:
            self._rules.pop(rule.name, None)
            self._last_number += rule.name == _numbered(self._last_number + 1)
        self._rules[rule.name] = rule

    def remove(self, name: str) -> None:
        """Take a rule away; it is no error if there is none."""
        self._rules.pop(name, None)

    def clear(self) -> int:
        """Take all rules away. Returns how many there were."""
        number = len(self._rules)
        self._rules = {}
        return number

    def changed(self) -> list[DynamicRule]:
        """The rules that were not there when these were loaded, or that are others now."""
        return [rule for rule in self if not rule.is_same(self._loaded.get(rule.name))]

    def removed(self) -> list[str]:
        """The names of the rules that were there, and are gone."""
        return [name for name in self._loaded if name not in self._rules]


def _numbered(number: int) -> str:
    """The name of a rule that nobody has named."""
    return f"dynamic-{number}"
