"""Owns policy documents: YAML read safely, written canonically, and compared.

Read as nodes, so that every error has its line. There are no tags, aliases or repeated keys, and
every scalar is text: ``policy: no`` is a policy called "no".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.values import Action, Filter, InterfaceType, Policy, Rule
from ipsecd.quoting import quote

MAX_BYTES = 16 << 20
MAX_DEPTH = 16

_POLICY_KEYS = ("policy", "description", "rules")
_RULE_KEYS = ("rule", "action", "interface", "filters")
_WHITE = str.maketrans("", "", "\t\r")
_PLAIN_MARKS = str.maketrans("", "", " -.,/_()'")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that other readers of YAML take for something else than text."""
_Chosen = TypeVar("_Chosen", Action, InterfaceType)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_policy(text: str | bytes, source: str = "<document>") -> Policy:
    """The policy in a document; raises ``InvalidInput`` with `source` and line."""
    node = _compose(text, source)
    top = _mapping(node, _POLICY_KEYS, source)
    if "policy" not in top:
        raise _wrong(node, source, "the document names no policy", "begin with: policy: NAME")
    rules = _rules(top.get("rules"), source)
    description = _text(top["description"], source) if "description" in top else ""
    try:
        return Policy(_text(top["policy"], source), rules, description)
    except InvalidInput as error:
        raise _wrong(node, source, error.message, error.hint) from error


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
        lines += [f'      - "{format_filter(one)}"' for one in rule.filters]
    return "\n".join(lines) + "\n"


def diff_policies(
    old: Policy | None, new: Policy | None, *, most: int | None = None
) -> tuple[str, ...]:
    """What changes from `old` to `new`, a line for each rule or filter; empty if nothing does.

    With `most` no line has more filters than that, and no rule more lines: what is left out is
    counted instead.
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
    return tuple(lines)


def policy_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of policy documents."""
    found: dict[str, Any] = json.loads(
        files("ipsecd.language").joinpath("policy-schema.json").read_text(encoding="utf-8")
    )
    return found


def _filter_lines(
    sign: str,
    name: str,
    filters: tuple[Filter, ...],
    elsewhere: frozenset[Filter],
    most: int | None,
) -> list[str]:
    changed = [one for one in filters if one not in elsewhere]
    lines = [f'{sign} rule "{name}": {format_filter(one)}' for one in changed[:most]]
    more = _more(changed, most)
    return [*lines, f'{sign} rule "{name}":{more}'] if more else lines


def _more(filters: Sequence[Filter], most: int | None) -> str:
    """How many filters come after the first `most`."""
    left = 0 if most is None else len(filters) - most
    return f" and {left:,} more" if left > 0 else ""


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
    return text if plain else '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _compose(text: str | bytes, source: str) -> yaml.Node:
    size = len(text)
    if size > MAX_BYTES:
        raise InvalidInput(
            f"the document is {size:,} bytes long",
            f"at most {MAX_BYTES:,} are read",
            source=source,
            line=1,
        )
    if isinstance(text, bytes):
        text = _decode(text, source)
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(
            f"this is not YAML: {error.problem}",
            "look at the indentation, the quotes and the colons near this line",
            source=source,
            line=line,
        ) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidInput(
            "this is not YAML: it holds a character that no text has",
            "save it as plain UTF-8 text",
            source=source,
            line=_line_of_control_character(text),
        ) from error
    if node is None:
        raise InvalidInput(
            "the document is empty", "begin with: policy: NAME", source=source, line=1
        )
    return node


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(
            "the document is not UTF-8 text", "save it as UTF-8", source=source, line=line
        ) from error


def _line_of_control_character(text: str) -> int:
    lines = text.split("\n")
    bad = (n for n, one in enumerate(lines, 1) if not one.translate(_WHITE).isprintable())
    return next(bad, 1)


def _check_events(text: str, source: str) -> None:
    """Refuse what a document need not have, before anything is built from it."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        problem = ""
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            problem = "there is more than one document" if documents > 1 else ""
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not allowed"
        elif tag := getattr(event, "tag", None):
            problem = f"tags such as {quote(tag)} are not allowed"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            problem = f"it is nested more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise InvalidInput(problem, "write plain YAML", source=source, line=line)


def _wrong(node: yaml.Node, source: str, message: str, hint: str) -> InvalidInput:
    return InvalidInput(message, hint, source=source, line=_line(node))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 0


def _mapping(node: yaml.Node, keys: tuple[str, ...], source: str) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(node, source, "here must be keys and values", f"keys are {', '.join(keys)}")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(key, source)
        if name in found:
            raise _wrong(key, source, f"the key {quote(name)} stands twice", "keep one of them")
        if name not in keys:
            close = get_close_matches(name, keys, 1)
            hint = f"did you mean {close[0]}?" if close else f"the keys are {', '.join(keys)}"
            raise _wrong(key, source, f"the key {quote(name)} is not known", hint)
        found[name] = value
    return found


def _sequence(node: yaml.Node | None, source: str) -> list[yaml.Node]:
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        raise _wrong(
            node, source, "here must be a list", "begin each item with a dash, or write []"
        )
    items: list[yaml.Node] = node.value
    return items


def _text(node: yaml.Node, source: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(node, source, "here must be text", "quote it if it holds : or #")
    text: str = node.value
    return text


def _rules(node: yaml.Node | None, source: str) -> tuple[Rule, ...]:
    rules: dict[str, Rule] = {}
    for one in _sequence(node, source):
        rule = _rule(one, source)
        if rule.name in rules:
            raise _wrong(
                one,
                source,
                f"there is a rule {quote(rule.name)} above already",
                "give each rule a name of its own, or put the filters into one rule",
            )
        rules[rule.name] = rule
    return tuple(rules.values())


def _rule(node: yaml.Node, source: str) -> Rule:
    keys = _mapping(node, _RULE_KEYS, source)
    for needed in ("rule", "action", "filters"):
        if needed not in keys:
            raise _wrong(node, source, f"the rule has no {needed!r}", f"add a line {needed}: …")
    action = _choice(keys["action"], Action, source)
    interface = _choice(keys["interface"], InterfaceType, source) if "interface" in keys else None
    filters = tuple(_filter(one, source) for one in _sequence(keys["filters"], source))
    try:
        return Rule(_text(keys["rule"], source), filters, action, interface)
    except InvalidInput as error:
        raise _wrong(node, source, error.message, error.hint) from error


def _choice(node: yaml.Node, kind: type[_Chosen], source: str) -> _Chosen:
    text = _text(node, source)
    try:
        return kind(text.lower())
    except ValueError:
        names = " or ".join(one.value for one in kind)
        raise _wrong(node, source, f"{quote(text)} is not {names}", f"write {names}") from None


def _filter(node: yaml.Node, source: str) -> Filter:
    text = _text(node, source)
    try:
        return parse_filter(text)
    except InvalidInput as error:
        quoted = quote(text)
        message = error.message if quoted in error.message else f"{error.message}: filter {quoted}"
        raise _wrong(node, source, message, error.hint) from error
