"""Owns policy documents: read (in ``reading``), written canonically, and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ipsecd.language.expectations import format_expectation
from ipsecd.language.filters import format_filter
from ipsecd.language.reading import MAX_BYTES, parse_policy
from ipsecd.model.expectations import Expectation
from ipsecd.model.values import Filter, Policy, Rule

__all__ = ["MAX_BYTES", "diff_policies", "format_policy", "parse_policy", "policy_schema"]

_PLAIN_MARKS = str.maketrans("", "", " -.,/_()'")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that other readers of YAML take for something else than text."""


def format_policy(policy: Policy) -> str:
    """The policy as a document in canonical form."""
    lines = [f"policy: {_scalar(policy.name)}"]
    if policy.description:
        lines.append(f"description: {_scalar(policy.description)}")
    lines.append("rules:" if policy.rules else "rules: []")
    for rule in policy.rules:
        lines.append(f"  - rule: {_scalar(rule.name)}")
        lines.append(f"    action: {rule.action.value}")
        if rule.interface_type:
            lines.append(f"    interface: {rule.interface_type.value}")
        lines.append("    filters:")
        lines += [f'      - "{format_filter(flt)}"' for flt in rule.filters]
    if policy.expect:
        lines.append("expect:")
        lines += [f"  - {_quoted(format_expectation(expected))}" for expected in policy.expect]
    return "\n".join(lines) + "\n"


def diff_policies(
    old: Policy | None, new: Policy | None, *, most: int | None = None
) -> tuple[str, ...]:
    """What changes from `old` to `new`, a line each; empty if nothing does.

    A line has a rule, a filter or an expectation. With `most` no line has more filters than that,
    and no rule more lines: what is left out is counted instead.
    """
    before = {rule.name: rule for rule in old.rules} if old else {}
    after = {rule.name: rule for rule in new.rules} if new else {}
    lines = []
    if old and new and old.name != new.name:
        lines.append(f"~ policy: {_scalar(old.name)} becomes {_scalar(new.name)}")
    if old and new and old.description != new.description:
        lines.append(f"~ description: {_scalar(new.description)}")
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if was and now and _head(was) == _head(now):
            lines += _filter_lines("-", name, was.filters, frozenset(now.filters), most)
            lines += _filter_lines("+", name, now.filters, frozenset(was.filters), most)
            continue
        for sign, rule in (("-", was), ("+", now)):
            if rule:
                text = " ".join(map(format_filter, rule.filters[:most]))
                more = _more(rule.filters, most)
                lines.append(f'{sign} rule "{name}": {_head(rule)} {text}{more}')
    expected, expects = (policy.expect if policy else () for policy in (old, new))
    return (*lines, *_expect_lines("-", expected, expects), *_expect_lines("+", expects, expected))


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of policy documents."""
    schema: dict[str, Any] = json.loads(
        files("ipsecd.language").joinpath("policy-schema.json").read_text(encoding="utf-8")
    )
    return schema


def _filter_lines(
    sign: str,
    name: str,
    filters: tuple[Filter, ...],
    elsewhere: frozenset[Filter],
    most: int | None,
) -> list[str]:
    changed = [flt for flt in filters if flt not in elsewhere]
    lines = [f'{sign} rule "{name}": {format_filter(flt)}' for flt in changed[:most]]
    more = _more(changed, most)
    return [*lines, f'{sign} rule "{name}":{more}'] if more else lines


def _expect_lines(
    sign: str, expect: tuple[Expectation, ...], elsewhere: tuple[Expectation, ...]
) -> list[str]:
    others = frozenset(elsewhere)
    changed = [format_expectation(expected) for expected in expect if expected not in others]
    return [f"{sign} expect: {text}" for text in changed]


def _more(filters: Sequence[Filter], most: int | None) -> str:
    """How many filters come after the first `most`."""
    omitted = 0 if most is None else len(filters) - most
    return f" and {omitted:,} more" if omitted > 0 else ""


def _head(rule: Rule) -> str:
    interface = f" on {rule.interface_type.value}" if rule.interface_type else ""
    return f"{rule.action.value}{interface}"


def _scalar(text: str) -> str:
    """A scalar, plain where every YAML reader takes it for this text, else in double quotes."""
    plain = (
        text.isascii()
        and text[:1].isalpha()
        and text[-1:] != " "
        and text.translate(_PLAIN_MARKS).isalnum()
        and text.casefold() not in _YAML_WORDS
    )
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08X}"
