"""Owns which dynamic rules an order to block or permit makes, and which of them are there already.

It is pure: it says what to put in the place of what, and changes nothing. Without a name, an order
makes one rule for each filter, which has a name that it was given here.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count
from math import inf

from ipsecd.errors import Refused
from ipsecd.model.values import ALWAYS, Action, Conditions, Filter
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule, DynamicRules, key_of_filter, numbered_name

SAME_MOMENT_S = 0.1
"""Two ends that are no further apart are one: a moment is told by one clock and kept by another."""
_GIVEN_NAME = re.compile(r"dynamic-[1-9][0-9]*")


class Existing(Enum):
    """What becomes of a rule that has the name of an order, and is another."""

    REFUSE = "refuse"
    REPLACE = "replace"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Order:
    """An order to block or permit what filters match.

    ``name`` is that of one rule for all of ``filters``, None for one rule for each of them.
    ``deadline`` is in monotonic seconds, ``inf`` for none; ``at_moment`` says that the operator
    named a moment, and no length of time. The rest is as in a ``DynamicRule``.
    """

    filters: tuple[Filter, ...]
    action: Action
    name: str | None = None
    existing: Existing = Existing.REFUSE
    conditions: Conditions = ALWAYS
    deadline: float = inf
    at_moment: bool = False
    created: float = 0.0
    by: str = ""
    looked_up: float = 0.0

    def rule(self, name: str, filters: tuple[Filter, ...]) -> DynamicRule:
        """The rule of that name that this order makes of some of its filters."""
        return DynamicRule(
            name,
            filters,
            self.action,
            self.conditions,
            self.deadline,
            self.created,
            self.by,
            self.looked_up,
        )


@dataclass(frozen=True, slots=True)
class Additions:
    """What an order comes to: all of its rules, and of these what has to be put in force.

    ``new`` are names that no rule had. ``shortened`` are the rules, as they were, whose end comes
    earlier than it would have.
    """

    rules: tuple[DynamicRule, ...]
    changed: tuple[DynamicRule, ...]
    new: frozenset[str]
    shortened: tuple[DynamicRule, ...]


def additions(rules: DynamicRules, order: Order) -> Additions:
    """What `order` comes to where `rules` are in force; raises ``Refused``."""
    wanted = (
        _for_each_filter(rules, order) if order.name is None else [_named(rules, order, order.name)]
    )
    all_rules, changed, new, shortened = [], [], [], []
    for rule in wanted:
        before = rules.get(rule.name)
        if before and _is_same(before, rule, order):
            all_rules.append(before)
            continue
        all_rules.append(rule)
        changed.append(rule)
        if before is None:
            new.append(rule.name)
        elif rule.deadline < before.deadline:
            shortened.append(before)
    return Additions(tuple(all_rules), tuple(changed), frozenset(new), tuple(shortened))


def _for_each_filter(rules: DynamicRules, order: Order) -> Iterator[DynamicRule]:
    free = (
        name for number in count(rules.last_number + 1)
        if (name := numbered_name(number)) not in rules.by_name
    )  # fmt: skip
    for rule_filter in _each_once(order.filters):
        before = _rule_of(rules, rule_filter, order)
        yield order.rule(before.name if before else next(free), (rule_filter,))


def _rule_of(rules: DynamicRules, rule_filter: Filter, order: Order) -> DynamicRule | None:
    """The rule for this filter alone that an order without a name has made, if there is one.

    A rule whose name somebody chose has a life of its own.
    """
    key = key_of_filter(rule_filter)
    for name in rules.names_by_key.get(key, ()):
        rule = rules.by_name[name][1]
        if (
            _GIVEN_NAME.fullmatch(name)
            and len(rule.filters) == 1
            and (rule.action, rule.conditions) == (order.action, order.conditions)
            and key_of_filter(rule.filters[0]) == key
        ):
            return rule
    return None


def _named(rules: DynamicRules, order: Order, name: str) -> DynamicRule:
    wanted = order.rule(name, tuple(_each_once(order.filters)))
    before = rules.get(name)
    if before is None or order.existing is Existing.REPLACE:
        return wanted
    is_alike = (before.action, before.conditions) == (order.action, order.conditions)
    if order.existing is Existing.ADD:
        return _extended(before, wanted, is_alike=is_alike)
    if is_alike and set(_keys(before.filters)) == set(_keys(wanted.filters)):
        return wanted
    raise Refused(
        f"there is a dynamic rule {quote(name)} already, and it is another",
        "--add adds these filters to it, --replace puts them in the place of its own; "
        "or choose another name",
    )


def _extended(before: DynamicRule, wanted: DynamicRule, *, is_alike: bool) -> DynamicRule:
    """A rule with more filters. It keeps its end unless another was named, which is no earlier."""
    if not is_alike:
        raise Refused(
            f"rule {quote(before.name)} cannot have these filters added: it "
            f"{before.action.value}s {_under(before)}",
            "a rule has one action, and one condition on interface and connection; choose another "
            "name, or --replace",
        )
    if wanted.ends and wanted.deadline < before.deadline - SAME_MOMENT_S:
        raise Refused(
            f"rule {quote(before.name)} would end earlier than it does, with all that it has",
            "leave --for out, and the filters that are added end with the rule; or choose another "
            "name",
        )
    present = set(_keys(before.filters))
    added = tuple(
        rule_filter for rule_filter in wanted.filters if key_of_filter(rule_filter) not in present
    )
    # Names that are asked for again have the addresses that they have now.
    renewed = {key_of_filter(rule_filter): rule_filter for rule_filter in wanted.filters}
    kept = tuple(
        renewed.get(key_of_filter(rule_filter), rule_filter) for rule_filter in before.filters
    )
    return replace(
        before,
        filters=kept + added,
        deadline=max(before.deadline, wanted.deadline) if wanted.ends else before.deadline,
        looked_up=wanted.looked_up or before.looked_up,
    )


def _under(rule: DynamicRule) -> str:
    """The conditions of a rule in words, after a verb."""
    asked = []
    if rule.conditions.interface_text:
        asked.append(f"on {rule.conditions.interface_text} links")
    if rule.conditions.when:
        asked.append(f"when {rule.conditions.when}")
    return " ".join(asked) or "on all links, all packets"


def _is_same(before: DynamicRule, rule: DynamicRule, order: Order) -> bool:
    """Whether nothing has to be put in force. A length of time begins anew each time."""
    if (before.action, before.conditions) != (rule.action, rule.conditions):
        return False
    if set(before.filters) != set(rule.filters):
        return False
    if before.deadline == rule.deadline:
        return True
    return order.at_moment and abs(before.deadline - rule.deadline) <= SAME_MOMENT_S


def _keys(filters: tuple[Filter, ...]) -> Iterator[Hashable]:
    return map(key_of_filter, filters)


def _each_once(filters: tuple[Filter, ...]) -> Iterator[Filter]:
    yield from {key_of_filter(rule_filter): rule_filter for rule_filter in filters}.values()
