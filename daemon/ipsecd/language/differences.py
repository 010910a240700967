"""Owns what changes from a policy to another, in lines for people and programs, and in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from ipsecd.language.documents import scalar
from ipsecd.language.expectations import format_expectation
from ipsecd.language.filters import format_filter
from ipsecd.model.expectations import Expectation
from ipsecd.model.values import Filter, Policy, Rule

_AS_USUAL = {
    "enabled": "true",
    **dict.fromkeys(("description", "filter-action", "filter-list"), '""'),
}
"""What is not said of a new rule."""


class RuleDifference(NamedTuple):
    """A rule that is not as it was: before, now, and its filters that are gone or new.

    ``words`` has what is new of it besides, by the keys of documents: whether it is switched off,
    what it is for, and which shared filters it has.
    """

    name: str
    before: Rule | None
    now: Rule | None
    gone: Sequence[Filter]
    new: Sequence[Filter]
    words: Mapping[str, str]

    @property
    def is_in_filters_only(self) -> bool:
        """Whether the rule was there before and has the same action and interface."""
        return bool(self.before and self.now and _head(self.before) == _head(self.now))


class Difference:
    """What changes from `old` to `new`. Filters are compared once, when they are asked for."""

    def __init__(self, old: Policy | None, new: Policy | None) -> None:
        self._old, self._new = old, new
        self._before = _by_name(old)
        self._now = _by_name(new)

    def __bool__(self) -> bool:
        return bool(self.lines(most=1))

    @cached_property
    def rules(self) -> tuple[RuleDifference, ...]:
        """The rules that are not as they were, by their names."""
        names = sorted({*self._before, *self._now})
        pairs = ((name, self._before.get(name), self._now.get(name)) for name in names)
        return tuple(_compared(name, before, now) for name, before, now in pairs if before != now)

    @property
    def rules_new_and_gone(self) -> tuple[int, int]:
        """How many rules are new, and how many are gone."""
        return (
            len(self._now.keys() - self._before.keys()),
            len(self._before.keys() - self._now.keys()),
        )

    @property
    def filters_new_and_gone(self) -> tuple[int, int]:
        """How many filters of all rules are new, and how many are gone."""
        return (
            sum(len(rule.new) for rule in self.rules),
            sum(len(rule.gone) for rule in self.rules),
        )

    def lines(self, *, most: int | None = None) -> tuple[str, ...]:
        """The difference, a line each; empty if there is none.

        A line has a rule, a filter or an expectation. With `most` no line has more filters than
        that, and no rule more lines: what is left out is counted instead.
        """
        old, new = self._old, self._new
        lines = []
        if old and new and old.name != new.name:
            lines.append(f"~ policy: {scalar(old.name)} becomes {scalar(new.name)}")
        if old and new and old.description != new.description:
            lines.append(f"~ description: {scalar(new.description)}")
        before, now = (bool(policy and policy.audit) for policy in (old, new))
        if before != now:
            lines.append("+ audit: true" if now else "- audit: true")
        for rule in self.rules:
            lines += _lines(rule, most)
        expected, expects = (policy.expect if policy else () for policy in (old, new))
        lines += _expect_lines("-", expected, expects)
        return (*lines, *_expect_lines("+", expects, expected))


def _by_name(policy: Policy | None) -> dict[str, tuple[Rule, bool]]:
    """The rules of a policy, each with whether it is switched off."""
    written = policy.written_rules() if policy else ()
    return {rule.name: (rule, rests) for rule, rests in written}


def diff_policies(
    old: Policy | None, new: Policy | None, *, most: int | None = None
) -> tuple[str, ...]:
    """What changes from `old` to `new`, in the lines of ``Difference.lines``."""
    return Difference(old, new).lines(most=most)


def _compared(
    name: str, before: tuple[Rule, bool] | None, now: tuple[Rule, bool] | None
) -> RuleDifference:
    was, is_ = before and before[0], now and now[0]
    words = _words(before, now)
    if was is None or is_ is None:
        gone, new = (rule.filters if rule else () for rule in (was, is_))
        return RuleDifference(name, was, is_, gone, new, words)
    filters_before, filters_now = frozenset(was.filters), frozenset(is_.filters)
    return RuleDifference(
        name,
        was,
        is_,
        [flt for flt in was.filters if flt not in filters_now],
        [flt for flt in is_.filters if flt not in filters_before],
        words,
    )


def _own_keys(rule: Rule, rests: bool) -> dict[str, str]:
    return {
        "enabled": "false" if rests else "true",
        "description": scalar(rule.description),
        "filter-action": scalar(rule.filter_action),
        "filter-list": scalar(rule.filter_list),
    }


def _words(before: tuple[Rule, bool] | None, now: tuple[Rule, bool] | None) -> dict[str, str]:
    """What is new of a rule by the keys of documents, besides its conditions and filters."""
    if now is None:
        return {}
    were = _own_keys(*before) if before else _AS_USUAL
    are = _own_keys(*now)
    return {key: value for key, value in are.items() if value != were[key]}


def _lines(rule: RuleDifference, most: int | None) -> Iterator[str]:
    """The lines about one rule."""
    if rule.is_in_filters_only:
        for sign, filters in (("-", rule.gone), ("+", rule.new)):
            yield from (
                f'{sign} rule "{rule.name}": {format_filter(flt)}' for flt in filters[:most]
            )
            if more := _more(filters, most):
                yield f'{sign} rule "{rule.name}":{more}'
    else:
        if rule.before:
            yield _whole("-", rule.before, most)
        if rule.now:
            yield _whole("+", rule.now, most)
    sign = "~" if rule.before else "+"
    yield from (f'{sign} rule "{rule.name}": {key}: {value}' for key, value in rule.words.items())


def _whole(sign: str, rule: Rule, most: int | None) -> str:
    words = [_head(rule), *map(format_filter, rule.filters[:most])]
    return f'{sign} rule "{rule.name}": {" ".join(words)}{_more(rule.filters, most)}'


def _expect_lines(
    sign: str, expect: tuple[Expectation, ...], elsewhere: tuple[Expectation, ...]
) -> list[str]:
    others = frozenset(elsewhere)
    return [
        f"{sign} expect: {format_expectation(one)}{f' ({one.reason})' if one.reason else ''}"
        for one in expect
        if one not in others
    ]


def _more(filters: Sequence[Filter], most: int | None) -> str:
    """How many filters come after the first `most`."""
    omitted = 0 if most is None else len(filters) - most
    return f" and {omitted:,} more" if omitted > 0 else ""


def _head(rule: Rule) -> str:
    return f"{rule.action.value} {rule.conditions}".rstrip()
