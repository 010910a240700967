"""Owns the dynamic rules, in memory; must not know the time: deadlines are only numbers.

Adding, removing and finding a rule cost the same however many there are, and leave the rules that
there were as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from operator import itemgetter

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.filters import parse_filter, parse_short
from ipsecd.model.addresses import HostName, Keyword, Network, Selector
from ipsecd.model.inventory import has_selectors
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.values import (
    Action,
    Endpoint,
    Filter,
    InForce,
    InterfaceType,
    Origin,
    Store,
    check_name,
)


@dataclass(frozen=True, slots=True)
class DynamicRule:
    """One dynamic rule.

    ``deadline`` is in monotonic seconds, ``inf`` for none; ``created`` in seconds since the
    epoch; ``by`` says who made it. ``looked_up`` is when its DNS names were, likewise.
    """

    name: str
    filters: tuple[Filter, ...]
    action: Action
    interface_type: InterfaceType | None = None
    deadline: float = inf
    created: float = 0.0
    by: str = ""
    looked_up: float = 0.0

    def __post_init__(self) -> None:
        check_name("rule", self.name)

    @property
    def origin(self) -> Origin:
        """What its filters have as their origin."""
        return Origin(Store.DYNAMIC.value, "", self.name)

    @property
    def ends(self) -> bool:
        """Whether it has an end."""
        return self.deadline != inf

    @property
    def in_force(self) -> tuple[InForce, ...]:
        """Its filters as they are in force."""
        return tuple(
            InForce(self.origin, one, self.action, self.interface_type) for one in self.filters
        )


@dataclass(frozen=True, slots=True)
class DynamicRules:
    """All dynamic rules, by name, in the order in which they were made; a change makes others.

    ``selecting`` has those whose filters name what a container engine knows. ``by_name`` has each
    with the number of its making, ``found_by`` the names of those that a filter or address finds,
    ``numbered`` is the last of the names that were given in a row, and ``filters`` how many filters
    all of them have.
    """

    selecting: PersistentMap[str, DynamicRule] = field(default_factory=PersistentMap)
    by_name: PersistentMap[str, tuple[int, DynamicRule]] = field(default_factory=PersistentMap)
    found_by: PersistentMap[Hashable, PersistentMap[str, None]] = field(
        default_factory=PersistentMap
    )
    made: int = 0
    numbered: int = 0
    filters: int = 0

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[DynamicRule]:
        return (rule for _, rule in sorted(self.by_name.values(), key=itemgetter(0)))

    def get(self, name: str) -> DynamicRule | None:
        """The rule called `name`, if there is one."""
        numbered = self.by_name.get(name)
        return numbered[1] if numbered else None

    def check_room(self, name: str, limit: int) -> None:
        """Raise ``LimitExceeded`` if a rule called `name` would be one more than `limit`."""
        if name not in self.by_name and len(self.by_name) >= limit:
            raise LimitExceeded(
                f"there are {len(self.by_name):,} dynamic rules already",
                "put long lists into a policy, or raise limits: dynamic-rules in ipsecd.yaml",
            )

    def free_name(self) -> str:
        """A name that no rule has."""
        names = (_numbered_name(number) for number in count(self.numbered + 1))
        return next(name for name in names if name not in self.by_name)

    def with_rule(self, rule: DynamicRule) -> DynamicRules:
        """These with a rule in the place of the one that has its name, if any."""
        rest = self.without(rule.name)
        found_by = rest.found_by
        for key in _keys(rule):
            found_by = found_by.with_item(
                key, found_by.get(key, _NO_NAMES).with_item(rule.name, None)
            )
        selects = any(map(has_selectors, rule.filters))
        return replace(
            rest,
            selecting=rest.selecting.with_item(rule.name, rule) if selects else rest.selecting,
            by_name=rest.by_name.with_item(rule.name, (self.made, rule)),
            found_by=found_by,
            made=self.made + 1,
            filters=rest.filters + len(rule.filters),
            numbered=self.numbered + (rule.name == _numbered_name(self.numbered + 1)),
        )

    def without(self, name: str) -> DynamicRules:
        """These without a rule; one that is absent is no error."""
        rule = self.get(name)
        if rule is None:
            return self
        found_by = self.found_by
        # Several filters of a rule can be found by one address.
        for key in set(_keys(rule)):
            names = found_by[key].without(name)
            found_by = found_by.with_item(key, names) if names else found_by.without(key)
        return replace(
            self,
            selecting=self.selecting.without(name),
            by_name=self.by_name.without(name),
            filters=self.filters - len(rule.filters),
            found_by=found_by,
        )

    def cleared(self) -> DynamicRules:
        """No rules; names go on where these have come to."""
        return DynamicRules(made=self.made, numbered=self.numbered)

    def find(self, selector: str) -> list[DynamicRule]:
        """The rules that `selector` means: by name, else by filter, else by address."""
        rule = self.get(selector)
        if rule:
            return [rule]
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
            if names := self.found_by.get(key):
                numbered = sorted((self.by_name[name] for name in names), key=itemgetter(0))
                return [rule for _, rule in numbered]
        return []


_NO_NAMES: PersistentMap[str, None] = PersistentMap()


def _numbered_name(number: int) -> str:
    return f"dynamic-{number}"


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
