"""Owns policy documents: read (in ``reading``), written canonically, and compared."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from ipsecd.language.expectations import format_expectation
from ipsecd.language.filters import format_filter
from ipsecd.language.reading import MAX_BYTES, errors_of_policy, parse_policy
from ipsecd.model.values import Filter, Policy

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
    lines.append("rules:" if policy.rules else "rules: []")
    for rule in policy.rules:
        lines.append(f"  - rule: {scalar(rule.name)}")
        lines.append(f"    action: {rule.action.value}")
        if rule.conditions.interface_text:
            lines.append(f"    interface: {scalar(rule.conditions.interface_text)}")
        if rule.conditions.when:
            lines.append(f"    when: {rule.conditions.when}")
        lines.append("    filters:")
        lines += [f'      - "{escaped_filter(flt)}"' for flt in rule.filters]
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
