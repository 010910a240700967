"""Owns policy documents: read (in ``reading``), written canonically, and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from ipsecd.language.expectations import format_expectation
from ipsecd.language.filters import format_filter
from ipsecd.language.reading import MAX_BYTES, errors_of_policy, parse_policy
from ipsecd.model.values import Filter, Policy, Rule

__all__ = ["MAX_BYTES", "errors_of_policy", "format_policy", "parse_policy", "policy_schema"]

_PLAIN_MARKS = str.maketrans("", "", " -.,/_()'")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that other readers of YAML take for something else than text."""


def format_policy(policy: Policy) -> str:
    """The policy as a document in canonical form."""
    lines = [f"policy: {scalar(policy.name)}"]
    if policy.description:
        lines.append(f"description: {scalar(policy.description)}")
    if policy.audit:
        lines.append("audit: true")
    has_rules = bool(policy.rules or policy.resting)
    lines.append("rules:" if has_rules else "rules: []")
    for rule, rests in policy.written_rules():
        first, *others = rule_lines(rule, rests=rests)
        lines.append(f"  - {first}")
        lines += [f"    {line}" for line in others]
    if policy.expect:
        lines.append("expect:")
        for expected in policy.expect:
            if expected.reason:
                lines.append(f"  - packet: {_quoted(expected.text)}")
                lines.append(f"    verdict: {expected.action.value}")
                lines.append(f"    reason: {_quoted(expected.reason)}")
            else:
                lines.append(f"  - {_quoted(format_expectation(expected))}")
    return "\n".join(lines) + "\n"


def rule_lines(rule: Rule, *, rests: bool) -> Iterator[str]:
    """A rule in canonical form, a line each, without the dash and the indentation."""
    yield f"rule: {scalar(rule.name)}"
    yield f"action: {rule.action.value}"
    for key, value in rule_keys(rule, rests=rests).items():
        if value:
            yield f"{key}: {value if key == 'enabled' else scalar(value)}"
    yield "filters:" if rule.filters else "filters: []"
    for flt in rule.filters:
        yield f'  - "{escaped_filter(flt)}"'


def rule_keys(rule: Rule, *, rests: bool) -> dict[str, str]:
    """What stands between the action of a rule and its filters: every key, with "" for none."""
    return {
        "interface": rule.conditions.interface_text or "",
        "when": rule.conditions.when or "",
        "enabled": "false" if rests else "",
        "description": rule.description,
        "filter-action": rule.filter_action,
        "filter-list": rule.filter_list,
    }


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of policy documents."""
    schema: dict[str, Any] = json.loads(
        files("ipsecd.language").joinpath("policy-schema.json").read_text(encoding="utf-8")
    )
    return schema


def scalar(text: str) -> str:
    """A scalar, plain where every YAML reader takes it for this text, else in double quotes."""
    plain = (
        text.isascii()
        and text[:1].isalpha()
        and text[-1:] != " "
        and text.translate(_PLAIN_MARKS).isalnum()
        and text.casefold() not in _YAML_WORDS
    )
    return text if plain else _quoted(text)


def escaped_filter(flt: Filter) -> str:
    """The text of a filter for double quotes: of what has to be escaped it holds only this."""
    return format_filter(flt).replace("\\", "\\\\")


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08X}"
