"""Owns how dynamic rules get into a backup, and out of one into force again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

from ipsecd.control.method import Request
from ipsecd.engine import Engine
from ipsecd.engine.quarantines import is_of_quarantine
from ipsecd.errors import InvalidInput, IpsecdError, NotFound
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.rule_parameters import read_action
from ipsecd.model.values import Filter
from ipsecd.quoting import count, few, quote
from ipsecd.sources.backups import Backup, RuleText
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import dns_names_in, with_addresses

SAME_END_S = 2.0
"""Ends are written in whole seconds, and two clocks tell them."""


@dataclass(slots=True)
class RestoredRules:
    """Dynamic rules to be put in force, and why others cannot be, by name."""

    rules: list[DynamicRule] = field(default_factory=list)
    refused: dict[str, IpsecdError] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """What becomes of rules, in a line."""
        if not self.rules:
            return []
        names = few([quote(rule.name) for rule in self.rules])
        return [f"+ {count(len(self.rules), 'dynamic rule')}: {names}"]

    def put_in_force(self, engine: Engine) -> bool:
        """Have the rules in force, all at once but for those that cannot be; whether any is."""
        if not self.rules:
            return False
        filters = [member for rule in self.rules for member in rule.filters]
        try:
            change = engine.list_changes.load_and(
                filters, lambda: engine.change_dynamic(self.rules, ())
            )
            self.refused |= change.refused
        except IpsecdError as error:
            self.refused |= dict.fromkeys((rule.name for rule in self.rules), error)
        return any(rule.name not in self.refused for rule in self.rules)

    @property
    def warnings(self) -> list[str]:
        """Which rules are not in force, and why."""
        return [
            f"dynamic rule {quote(name)} is not restored: {error.message}"
            for name, error in self.refused.items()
        ]


def texts_of(engine: Engine) -> tuple[RuleText, ...]:
    """The dynamic rules in force, without those of quarantines."""
    now, moment = engine.now(), time.time()
    return tuple(
        RuleText(
            rule.name,
            rule.action.value,
            tuple(map(format_filter, rule.filters)),
            rule.conditions.interface_text,
            rule.conditions.when,
            None if rule.deadline == inf else round(moment + rule.deadline - now),
        )
        for rule in engine.dynamic
        if not is_of_quarantine(engine.state, rule.name)
    )


def restored_rules(engine: Engine, backup: Backup, request: Request) -> RestoredRules:
    """The rules of a backup that are to be put in force, if that is asked for.

    Those whose time is over are left out, and those that are in force already.
    """
    wanted = RestoredRules()
    if not request["dynamic"]:
        return wanted
    now, moment = engine.now(), time.time()
    for given in backup.dynamic:
        if given.ends is not None and given.ends <= moment:
            continue
        deadline = inf if given.ends is None else now + given.ends - moment
        try:
            rule = _rule(given, deadline, moment, request)
        except IpsecdError as error:
            wanted.refused[given.name] = error
            continue
        if not _is_same(engine.dynamic.get(given.name), rule):
            wanted.rules.append(rule)
    return wanted


def names_of_rules(backup: Backup, request: Request) -> frozenset[str]:
    """The DNS names that are to be looked up for them."""
    return dns_names_in(_filters(backup)) if request["dynamic"] else frozenset()


def _filters(backup: Backup) -> Iterator[Filter]:
    for rule in backup.dynamic:
        for text in rule.filters:
            with suppress(IpsecdError):
                yield parse_filter(text)


def _rule(given: RuleText, deadline: float, moment: float, request: Request) -> DynamicRule:
    filters = tuple(map(parse_filter, given.filters))
    if not filters:
        raise InvalidInput("it has no filter")
    names = dns_names_in(filters)
    if unknown := [name for name in sorted(names) if not request.names.get(name)]:
        raise NotFound(f"{quote(unknown[0])} could not be looked up")
    return DynamicRule(
        given.name,
        tuple(with_addresses(member, request.names) for member in filters),
        read_action(given.action),
        parse_conditions(given.interface, given.when),
        deadline,
        moment,
        request.by,
        moment if names else 0.0,
    )


def _is_same(present: DynamicRule | None, wanted: DynamicRule) -> bool:
    if present is None:
        return False
    what = (present.filters, present.action, present.conditions)
    ends = present.deadline, wanted.deadline
    is_same_end = ends[0] == ends[1] or abs(ends[0] - ends[1]) < SAME_END_S
    return is_same_end and what == (wanted.filters, wanted.action, wanted.conditions)
