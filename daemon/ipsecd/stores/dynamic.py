"""Owns the dynamic rules, in memory; must not know the time, which callers pass in.

Adding, removing and finding a rule cost the same however many there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import inf

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.filters import parse_filter, parse_short
from ipsecd.model.values import (
    Action,
    Endpoint,
    Filter,
    HostName,
    InForce,
    InterfaceType,
    Keyword,
    Network,
    Origin,
    Selector,
    Store,
    check_name,
)


@dataclass(frozen=True, slots=True)
class DynamicRule:
    """One dynamic rule.

    ``deadline`` is in monotonic seconds, ``inf`` for none; ``created`` in seconds since the
    epoch; ``by`` says who made it.
    """

    name: str
    filters: tuple[Filter, ...]
    action: Action
    interface_type: InterfaceType | None = None
    deadline: float = inf
    created: float = 0.0
    by: str = ""

    def __post_init__(self) -> None:
        check_name("rule", self.name)

    @property
    def origin(self) -> Origin:
        """What its filters have as their origin."""
        return Origin(Store.DYNAMIC.value, "", self.name)

    @property
    def in_force(self) -> tuple[InForce, ...]:
        """Its filters as they are in force."""
        return tuple(
            InForce(self.origin, one, self.action, self.interface_type) for one in self.filters
        )


SPARE_DEADLINES = 1000
"""How many deadlines of rules that are gone are kept, besides as many as there are rules."""


class DynamicStore:
    """All dynamic rules, by name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rules: dict[str, DynamicRule] = {}
        self._found_by: dict[Hashable, dict[str, None]] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[DynamicRule]:
        return iter(self._rules.values())

    def get(self, name: str) -> DynamicRule | None:
        """The rule called `name`, if there is one."""
        return self._rules.get(name)

    def check_room(self, name: str) -> None:
        """Raise ``LimitExceeded`` if a rule called `name` would be one too many."""
        if name not in self._rules and len(self._rules) >= self._limit:
            raise LimitExceeded(
                f"there are {len(self._rules):,} dynamic rules already",
                "put long lists into a policy, or raise limits: dynamic-rules in ipsecd.yaml",
            )

    def free_name(self) -> str:
        """A name that no rule has."""
        while True:
            name = f"dynamic-{next(self._numbers)}"
            if name not in self._rules:
                return name

    def add(self, rule: DynamicRule) -> None:
        """Add a rule in the place of the one that has its name, if any."""
        self.remove(rule.name)
        self._rules[rule.name] = rule
        for key in _keys(rule):
            self._found_by.setdefault(key, {})[rule.name] = None
        if rule.deadline != inf:
            heapq.heappush(self._deadlines, (rule.deadline, rule.name))
        if len(self._deadlines) > 2 * len(self._rules) + SPARE_DEADLINES:
            # Those of rules that were removed or renewed early.
            self._deadlines = [(r.deadline, r.name) for r in self if r.deadline != inf]
            heapq.heapify(self._deadlines)

    def remove(self, name: str) -> None:
        """Remove a rule; one that is absent is no error."""
        rule = self._rules.pop(name, None)
        # Several filters of a rule can be found by one address.
        for key in set(_keys(rule)) if rule else ():
            names = self._found_by[key]
            names.pop(name, None)
            if not names:
                del self._found_by[key]

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()
        self._found_by.clear()
        self._deadlines.clear()

    def find(self, selector: str) -> list[DynamicRule]:
        """The rules that `selector` means: by name, else by filter, else by address."""
        if selector in self._rules:
            return [self._rules[selector]]
        keys: list[Hashable] = []
        try:
            one = parse_filter(selector)
            keys = [one]
        except InvalidInput:
            try:
                one = parse_short(selector)
            except InvalidInput:
                return []
            address = one.source.address
            bare = one == Filter(Endpoint(address), Endpoint(Keyword.ME))
            keys = [one, address] if bare else [one]
        for key in keys:
            if names := self._found_by.get(key):
                return [self._rules[name] for name in names]
        return []

    def next_deadline(self) -> float | None:
        """When the next rule ends, None if none does."""
        while self._deadlines:
            deadline, name = self._deadlines[0]
            rule = self._rules.get(name)
            if rule and rule.deadline == deadline:
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def ended(self, now: float) -> list[DynamicRule]:
        """The rules whose deadline has come; they stay until they are removed."""
        found = []
        passed = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            passed.append(heapq.heappop(self._deadlines))
            found.append(self._rules[passed[-1][1]])
        for one in passed:
            heapq.heappush(self._deadlines, one)
        return found


def _keys(rule: DynamicRule) -> Iterator[Hashable]:
    """What a rule can be found by, besides its name: each filter, and each address in one."""
    for one in rule.filters:
        # A filter is found by what was written, whatever its DNS names stand for today.
        plain = replace(one, source=_plain(one.source), destination=_plain(one.destination))
        yield plain
        for endpoint in (one.source, one.destination):
            if isinstance(endpoint.address, Network):
                yield endpoint.address
            elif isinstance(endpoint.address, Selector):
                yield replace(endpoint.address, addresses=())
            elif isinstance(endpoint.address, HostName):
                yield HostName(endpoint.address.name)
                yield from endpoint.address.addresses


def _plain(endpoint: Endpoint) -> Endpoint:
    address = endpoint.address
    if isinstance(address, Selector):
        return replace(endpoint, address=replace(address, addresses=()))
    if isinstance(address, HostName):
        return replace(endpoint, address=replace(address, addresses=()))
    return endpoint
