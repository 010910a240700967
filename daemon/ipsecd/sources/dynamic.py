"""Owns the dynamic rules, in memory; must not know the time: deadlines are only numbers.

Adding, removing and finding a rule cost the same however many rules there are. A change makes a new
value and leaves the old one as it was.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from operator import itemgetter

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.filters import parse_filter, parse_short
from ipsecd.model.addresses import Address, HostName, Keyword, Network, Selector
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
        return Origin.of(Store.DYNAMIC, "", self.name, self.action)

    @property
    def ends(self) -> bool:
        """Whether it has an end."""
        return self.deadline != inf

    @property
    def in_force(self) -> tuple[InForce, ...]:
        """Its filters as they are in force."""
        origin = self.origin
        return tuple(
            InForce(origin, rule_filter, self.action, self.conditions)
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

    def check_room(self, names: Iterable[str], limit: int) -> None:
        """Raise ``LimitExceeded`` if rules of these names would be more than `limit` with these."""
        new = len({name for name in names if name not in self.by_name})
        if new and len(self.by_name) + new > limit:
            asked = "" if new == 1 else f", and {new:,} more would be too many"
            raise LimitExceeded(
                f"there are {len(self.by_name):,} dynamic rules already{asked}",
                "put long lists into a policy, or raise limits: dynamic-rules in ipsecd.yaml",
            )

    def free_name(self) -> str:
        """A name that no rule has."""
        names = (numbered_name(number) for number in count(self.last_number + 1))
        return next(name for name in names if name not in self.by_name)

    def with_rule(self, rule: DynamicRule) -> DynamicRules:
        """These rules and `rule`, which replaces the rule of its name, if there is one."""
        return self.with_rules([rule])

    def with_rules(self, rules: Iterable[DynamicRule]) -> DynamicRules:
        """These rules and `rules`, whose names differ; each replaces the rule of its name.

        A rule keeps its place in the order if only its end or the like changes.
        """
        others, new = self, []
        renewed: dict[str, tuple[int, DynamicRule]] = {}
        for rule in rules:
            place = self.by_name.get(rule.name)
            if place and place[1].filters == rule.filters:
                renewed[rule.name] = (place[0], rule)
                continue
            if place:
                others = others.without(rule.name)
            new.append(rule)
        selecting = {rule.name: rule for rule in new if any(map(has_selectors, rule.filters))}
        selecting |= {name: rule for name, (_, rule) in renewed.items() if name in others.selecting}
        listing = {rule.name: rule for rule in new if any(map(lists_in, rule.filters))}
        listing |= {name: rule for name, (_, rule) in renewed.items() if name in others.listing}
        names: dict[Hashable, PersistentMap[str, None]] = {}
        last_number = self.last_number
        for rule in new:
            for key in _keys(rule):
                of_key = names.get(key) or others.names_by_key.get(key)
                names[key] = (
                    of_key.with_item(rule.name, None)
                    if of_key
                    else PersistentMap.of_one(rule.name, None)
                )
            last_number += rule.name == numbered_name(last_number + 1)
        by_name = {rule.name: (number, rule) for number, rule in enumerate(new, self.rules_made)}
        return DynamicRules(
            others.selecting.with_items(selecting),
            others.listing.with_items(listing),
            others.by_name.with_items({**by_name, **renewed}),
            others.names_by_key.with_items(names),
            self.rules_made + len(new),
            last_number,
            others.filters + sum(len(rule.filters) for rule in new),
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

    def select(self, selector: str) -> list[Selected]:
        """What `selector` stands for: a rule by its name, else filters, else an address.

        A filter stands for itself in every rule, an address for every filter that names it. Of a
        DNS name that has other addresses too, an address alone selects nothing.
        """
        if rule := self.get(selector):
            return [Selected(rule, ())]
        try:
            return self._with_key(parse_filter(selector))
        except InvalidInput:
            pass
        try:
            wanted = parse_short(selector)
        except InvalidInput:
            return []
        address = address_alone(wanted)
        return self._with_key(wanted) if address is None else self._with_key(address)

    def _with_key(self, key: Filter | Address) -> list[Selected]:
        names = self.names_by_key.get(key, _NO_NAMES)
        in_order = sorted((self.by_name[name] for name in names), key=itemgetter(0))
        selected = []
        for _, rule in in_order:
            kept = tuple(
                rule_filter for rule_filter in rule.filters if not _stands_for(key, rule_filter)
            )
            if len(kept) < len(rule.filters):
                selected.append(Selected(rule, kept))
        return selected


@dataclass(frozen=True, slots=True)
class Selected:
    """A rule of which filters are selected, and those of its filters that are not."""

    rule: DynamicRule
    kept: tuple[Filter, ...]


def address_alone(rule_filter: Filter) -> Address | None:
    """The address that a filter is about, if it is what an address in short stands for."""
    address = rule_filter.source.address
    is_alone = rule_filter == Filter(Endpoint(address), Endpoint(Keyword.ME))
    return address if is_alone else None


_NO_NAMES: PersistentMap[str, None] = PersistentMap()


def numbered_name(number: int) -> str:
    """The name of a rule that nobody has named."""
    return f"dynamic-{number}"


def key_of_filter(rule_filter: Filter) -> Filter:
    """What a filter is known by: what was written, whatever its names stand for today."""
    source, destination = map(_without_addresses, (rule_filter.source, rule_filter.destination))
    if source is rule_filter.source and destination is rule_filter.destination:
        return rule_filter
    return replace(rule_filter, source=source, destination=destination)


def _keys(rule: DynamicRule) -> Iterator[Hashable]:
    """What a rule can be found by, besides its name: each filter, and each address in a filter."""
    for rule_filter in rule.filters:
        yield key_of_filter(rule_filter)
        for endpoint in (rule_filter.source, rule_filter.destination):
            address = endpoint.address
            if isinstance(address, Network):
                yield address
                continue
            if isinstance(address, HostName):
                yield from address.addresses
            if not isinstance(address, Keyword):
                yield _without_addresses(endpoint).address


def _stands_for(key: Filter | Address, rule_filter: Filter) -> bool:
    """Whether a filter is the one under `key`, or names the address that `key` is."""
    if isinstance(key, Filter):
        return key_of_filter(rule_filter) == key
    endpoints = (rule_filter.source, rule_filter.destination)
    return any(
        _without_addresses(endpoint).address == key
        or (isinstance(endpoint.address, HostName) and endpoint.address.addresses == (key,))
        for endpoint in endpoints
    )


def _without_addresses(endpoint: Endpoint) -> Endpoint:
    address = endpoint.address
    if isinstance(address, Selector | HostName) and address.addresses:
        return replace(endpoint, address=replace(address, addresses=()))
    return endpoint
