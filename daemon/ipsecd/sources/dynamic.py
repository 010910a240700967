"""Owns the dynamic rules, in memory; must not know the time: deadlines are only numbers.

Adding, removing and finding a rule cost the same however many rules there are. A change makes a new
value and leaves the old one as it was.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from operator import itemgetter

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.filters import parse_filter, parse_short
from ipsecd.model.addresses import HostName, Keyword, ListName, Network, Selector
from ipsecd.model.inventory import has_selectors
from ipsecd.model.list_names import lists_in
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.values import (
    ALWAYS,
    Action,
    Conditions,
    Endpoint,
    Filter,
    InForce,
    Origin,
    Store,
    check_name,
)


@dataclass(frozen=True, slots=True)
class DynamicRule:
    """One dynamic rule.

    ``deadline`` is in monotonic seconds, ``inf`` for none. ``created`` is in seconds since the
    epoch, as is ``looked_up``, when its DNS names were looked up. ``by`` says who made it.
    """

    name: str
    filters: tuple[Filter, ...]
    action: Action
    conditions: Conditions = ALWAYS
    deadline: float = inf
    created: float = 0.0
    by: str = ""
    looked_up: float = 0.0

    def __post_init__(self) -> None:
        check_name("rule", self.name)

    @property
    def origin(self) -> Origin:
        """The origin of its filters."""
        return Origin(Store.DYNAMIC.value, "", self.name)

    @property
    def ends(self) -> bool:
        """Whether it has an end."""
        return self.deadline != inf

    @property
    def in_force(self) -> tuple[InForce, ...]:
        """Its filters as they are in force."""
        return tuple(
            InForce(self.origin, rule_filter, self.action, self.conditions)
            for rule_filter in self.filters
        )


@dataclass(frozen=True, slots=True)
class DynamicRules:
    """All dynamic rules, by name, in the order in which they were made; immutable.

    ``selecting`` has the rules whose filters name what a container engine knows, ``listing`` those
    whose filters name lists. ``by_name`` has
    each rule with its number in the order of making; ``rules_made`` is the next number.
    ``names_by_key`` has the names of the rules that a filter or address finds. ``last_number`` is
    the number in the last name that was given without a gap, as in ``dynamic-3``. ``filters`` is
    how many filters all rules have together.
    """

    selecting: PersistentMap[str, DynamicRule] = field(default_factory=PersistentMap)
    listing: PersistentMap[str, DynamicRule] = field(default_factory=PersistentMap)
    by_name: PersistentMap[str, tuple[int, DynamicRule]] = field(default_factory=PersistentMap)
    names_by_key: PersistentMap[Hashable, PersistentMap[str, None]] = field(
        default_factory=PersistentMap
    )
    rules_made: int = 0
    last_number: int = 0
    filters: int = 0

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[DynamicRule]:
        return (rule for _, rule in sorted(self.by_name.values(), key=itemgetter(0)))

    def get(self, name: str) -> DynamicRule | None:
        """The rule called `name`, if there is one."""
        number_and_rule = self.by_name.get(name)
        return number_and_rule[1] if number_and_rule else None

    def check_room(self, name: str, limit: int) -> None:
        """Raise ``LimitExceeded`` if a rule called `name` would be one more than `limit`."""
        if name not in self.by_name and len(self.by_name) >= limit:
            raise LimitExceeded(
                f"there are {len(self.by_name):,} dynamic rules already",
                "put long lists into a policy, or raise limits: dynamic-rules in ipsecd.yaml",
            )

    def free_name(self) -> str:
        """A name that no rule has."""
        names = (_numbered_name(number) for number in count(self.last_number + 1))
        return next(name for name in names if name not in self.by_name)

    def with_rule(self, rule: DynamicRule) -> DynamicRules:
        """These rules and `rule`, which replaces the rule of its name, if there is one."""
        others = self.without(rule.name)
        names_by_key = others.names_by_key
        for key in _keys(rule):
            names_by_key = names_by_key.with_item(
                key, names_by_key.get(key, _NO_NAMES).with_item(rule.name, None)
            )
        selects = any(map(has_selectors, rule.filters))
        lists = any(map(lists_in, rule.filters))
        return replace(
            others,
            selecting=others.selecting.with_item(rule.name, rule) if selects else others.selecting,
            listing=others.listing.with_item(rule.name, rule) if lists else others.listing,
            by_name=others.by_name.with_item(rule.name, (self.rules_made, rule)),
            names_by_key=names_by_key,
            rules_made=self.rules_made + 1,
            filters=others.filters + len(rule.filters),
            last_number=self.last_number + (rule.name == _numbered_name(self.last_number + 1)),
        )

    def without(self, name: str) -> DynamicRules:
        """These rules without the one called `name`; it is no error if there is none."""
        rule = self.get(name)
        if rule is None:
            return self
        names_by_key = self.names_by_key
        # Several filters of a rule can be found by one address.
        for key in set(_keys(rule)):
            names = names_by_key[key].without(name)
            names_by_key = (
                names_by_key.with_item(key, names) if names else names_by_key.without(key)
            )
        return replace(
            self,
            selecting=self.selecting.without(name),
            listing=self.listing.without(name),
            by_name=self.by_name.without(name),
            filters=self.filters - len(rule.filters),
            names_by_key=names_by_key,
        )

    def cleared(self) -> DynamicRules:
        """No rules. New names continue the numbers that were given so far."""
        return DynamicRules(rules_made=self.rules_made, last_number=self.last_number)

    def find(self, selector: str) -> list[DynamicRule]:
        """The rules that `selector` stands for: by name, else by filter, else by address."""
        rule = self.get(selector)
        if rule:
            return [rule]
        keys: list[Hashable] = []
        try:
            wanted = parse_filter(selector)
            keys = [wanted]
        except InvalidInput:
            try:
                wanted = parse_short(selector)
            except InvalidInput:
                return []
            address = wanted.source.address
            is_address_alone = wanted == Filter(Endpoint(address), Endpoint(Keyword.ME))
            keys = [wanted, address] if is_address_alone else [wanted]
        for key in keys:
            if names := self.names_by_key.get(key):
                in_order = sorted((self.by_name[name] for name in names), key=itemgetter(0))
                return [rule for _, rule in in_order]
        return []


_NO_NAMES: PersistentMap[str, None] = PersistentMap()


def _numbered_name(number: int) -> str:
    return f"dynamic-{number}"


def _keys(rule: DynamicRule) -> Iterator[Hashable]:
    """What a rule can be found by, besides its name: each filter, and each address in a filter."""
    for rule_filter in rule.filters:
        # A filter is found by what was written, whatever its DNS names stand for today.
        source, destination = rule_filter.source, rule_filter.destination
        yield replace(
            rule_filter,
            source=_without_addresses(source),
            destination=_without_addresses(destination),
        )
        for endpoint in (source, destination):
            if isinstance(endpoint.address, Network | ListName):
                yield endpoint.address
            elif isinstance(endpoint.address, Selector):
                yield replace(endpoint.address, addresses=())
            elif isinstance(endpoint.address, HostName):
                yield HostName(endpoint.address.name)
                yield from endpoint.address.addresses


def _without_addresses(endpoint: Endpoint) -> Endpoint:
    address = endpoint.address
    if isinstance(address, Selector):
        return replace(endpoint, address=replace(address, addresses=()))
    if isinstance(address, HostName):
        return replace(endpoint, address=replace(address, addresses=()))
    return endpoint
