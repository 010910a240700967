"""Owns the values that users write, rules and policies above filters; must not know any syntax.

Every value is immutable and valid: constructors raise ``InvalidInput``. Filters are in ``filters``,
and have their names here as well, for whoever uses them together with rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import HostName, ListName, Process, Selector
from ipsecd.model.expectations import Expectation, each_once
from ipsecd.model.filters import (
    DCCP,
    ICMP,
    ICMP_VERSIONS,
    IPV6_EXTENSION_HEADERS,
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    Endpoint,
    Filter,
    IcmpOfFamily,
    PortRange,
)
from ipsecd.model.kinds import ALWAYS, Action, Conditions, InterfaceType, LinkName
from ipsecd.quoting import quote

__all__ = [
    "ALWAYS",
    "DCCP",
    "ICMP",
    "ICMP_VERSIONS",
    "IPV6_EXTENSION_HEADERS",
    "MAX_NAME",
    "MAX_PORT",
    "PROTOCOLS_WITH_PORTS",
    "SCTP",
    "TCP",
    "UDP",
    "UDPLITE",
    "Action",
    "Conditions",
    "Endpoint",
    "Facts",
    "Filter",
    "IcmpOfFamily",
    "InForce",
    "InterfaceType",
    "LinkName",
    "Origin",
    "Policy",
    "PortRange",
    "Rule",
    "Store",
    "check_description",
    "check_name",
    "filters_of",
]

MAX_NAME = 256


class Store(Enum):
    """Where a filter lives, and so how long."""

    STATIC = "static"
    DOMAIN = "domain"
    DYNAMIC = "dynamic"
    CONFIGURATION = "configuration"
    """The daemon's settings. They hold no policies, only filters that nothing may outrank."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named list of filters with one action, for packets under some conditions or always.

    ``filter_list`` and ``filter_action`` are the names of the shared filter list and action that
    its filters and action were taken from, "" for none. A filter list may be empty, and then the
    rule matches nothing; any other rule has a filter.
    """

    name: str
    filters: tuple[Filter, ...]
    action: Action
    conditions: Conditions = ALWAYS
    filter_list: str = ""
    filter_action: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        check_name("rule", self.name)
        if self.filter_list:
            check_name("filter list", self.filter_list)
        if self.filter_action:
            check_name("filter action", self.filter_action)
        check_description(f"rule {quote(self.name)}", self.description)
        if not self.filters and not self.filter_list:
            raise InvalidInput(
                f"rule {quote(self.name)} has no filters",
                'give at least one, such as "*=0:1434:UDP"',
            )
        object.__setattr__(self, "filters", tuple(dict.fromkeys(self.filters)))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of a policy all the time, found out by one look at all of its filters.

    ``actions`` has every rule by its name, ``names`` the DNS names. ``by_name`` are the rules
    with those filters that name containers, lists or local processes, which come and go. Both have
    rules as they are in force.
    """

    actions: Mapping[str, Action]
    filters: int
    names: frozenset[str]
    by_name: tuple[Rule, ...]


@dataclass(frozen=True)
class Policy:
    """A named list of rules; their order has no meaning and their names are unique.

    ``expect`` is what its author expects of it. With ``audit`` every rule that blocks is an audit
    where it is in force; it is still expected to block. ``resting`` are the rules that are switched
    off: they are part of the document, and nowhere in force. No name is that of two rules of both.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    description: str = ""
    expect: tuple[Expectation, ...] = ()
    audit: bool = False
    resting: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check_name("policy", self.name)
        check_description(f"policy {quote(self.name)}", self.description)
        names: set[str] = set()
        for rule in (*self.rules, *self.resting):
            if rule.name in names:
                raise InvalidInput(
                    f"policy {quote(self.name)} has two rules named {quote(rule.name)}",
                    "give each rule a name of its own, or put the filters into one rule",
                )
            names.add(rule.name)
        if self.expect:
            object.__setattr__(self, "expect", each_once(self.expect))

    @cached_property
    def facts(self) -> Facts:
        """What is asked of it all the time."""
        names: set[str] = set()
        by_name = []
        for rule in self.rules:
            going: list[Filter] = []
            for flt in rule.filters:
                for address in (flt.source.address, flt.destination.address):
                    if isinstance(address, HostName):
                        names.add(address.name)
                    elif (
                        isinstance(address, Selector | ListName | Process) and flt not in going[-1:]
                    ):
                        going.append(flt)
            if going:
                action = self.action_of(rule)
                by_name.append(replace(rule, filters=tuple(going), action=action))
        return Facts(
            {rule.name: self.action_of(rule) for rule in self.rules},
            sum(len(rule.filters) for rule in self.rules),
            frozenset(names),
            tuple(by_name),
        )

    def action_of(self, rule: Rule) -> Action:
        """The action that one of its rules has where it is in force."""
        return Action.AUDIT if self.audit and rule.action is Action.BLOCK else rule.action

    def with_audit(self, audit: bool) -> Policy:
        """The policy with or without ``audit``."""
        return Policy(self.name, self.rules, self.description, self.expect, audit, self.resting)

    def with_rule(self, rule: Rule) -> Policy:
        """The policy with `rule` added, in the place of the one that has its name, if any.

        The rule is not resting, even if the one before was.
        """
        if any(old.name == rule.name for old in self.rules):
            rules = tuple(rule if old.name == rule.name else old for old in self.rules)
        else:
            rules = (*self.rules, rule)
        resting = tuple(old for old in self.resting if old.name != rule.name)
        return self.with_rules(rules, resting)

    def without_rules(self, names: frozenset[str]) -> Policy:
        """The policy without the rules named in `names`, resting or not."""
        rules = tuple(rule for rule in self.rules if rule.name not in names)
        resting = tuple(rule for rule in self.resting if rule.name not in names)
        return self.with_rules(rules, resting)

    def with_rules(self, rules: tuple[Rule, ...], resting: tuple[Rule, ...]) -> Policy:
        """The policy with these rules, and no others."""
        return Policy(self.name, rules, self.description, self.expect, self.audit, resting)

    def written_rules(self) -> Iterator[tuple[Rule, bool]]:
        """Every rule of its document, each with whether it is resting."""
        for rule in self.rules:
            yield rule, False
        for rule in self.resting:
            yield rule, True


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a filter in force was written: its store, policy ("" if dynamic) and rule.

    ``audits`` is whether the rule is an audit there. A rule that is tried and then blocks has one
    origin after the other, so that packets that passed are counted apart from those it dropped.
    """

    store: str
    policy: str
    rule: str
    audits: bool = False

    @classmethod
    def of(cls, store: Store, policy: str, rule: str, action: Action) -> Origin:
        """The origin of the filters of a rule that is in force with `action`."""
        return cls(store.value, policy, rule, action is Action.AUDIT)

    @property
    def volatile(self) -> bool:
        """Whether the filter is gone when the daemon is stopped."""
        return self.store == Store.DYNAMIC.value

    @property
    def protected(self) -> bool:
        """Whether nothing outranks the filter but others of the settings."""
        return self.store == Store.CONFIGURATION.value


@dataclass(frozen=True, slots=True)
class InForce:
    """One filter in force, with what its rule says about it."""

    origin: Origin
    filter: Filter
    action: Action
    conditions: Conditions = ALWAYS


def filters_of(policy: Policy, store: Store) -> tuple[InForce, ...]:
    """All filters of `policy` as they are in force when it is taken from `store`."""
    return tuple(
        InForce(origin, flt, action, rule.conditions)
        for rule in policy.rules
        for action in (policy.action_of(rule),)
        for origin in (Origin.of(store, policy.name, rule.name, action),)
        for flt in rule.filters
    )


def check_name(kind: str, name: str) -> None:
    """Raise ``InvalidInput`` unless `name` can name a policy or rule: printable, 1 to 256 long."""
    if not name or len(name) > MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput(
            f"{quote(name)} cannot name a {kind}",
            f"use 1 to {MAX_NAME} printable characters with no space at either end",
        )


def check_description(what: str, description: str) -> None:
    """Raise ``InvalidInput`` unless the `description` of `what` can be written down."""
    try:
        description.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the description of {what} is not text",
            "leave out the half of a surrogate pair in it",
        ) from error
