"""Owns reading policy documents, from YAML to a policy; must not know how they are written.

A document is read event by event, by its schema. So however long it is, only the policy read so far
is in memory, and an error is raised where it is met, with its line. Tags, aliases and repeated keys
are refused, and every scalar is text: ``policy: no`` is a policy called "no".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.garbage import collection_paused
from ipsecd.language.conditions import parse_interface, parse_when
from ipsecd.language.expectations import parse_expectation
from ipsecd.language.filters import parse_short
from ipsecd.language.runs import fold
from ipsecd.model.expectations import Expectation, each_once
from ipsecd.model.values import (
    Action,
    Conditions,
    Filter,
    InterfaceType,
    LinkName,
    Policy,
    Rule,
)
from ipsecd.quoting import quote

MAX_BYTES = 16 << 20
"""How long a policy document may be, wherever it comes from."""

_WHITE = str.maketrans("", "", "\t\r")
_Parsed = TypeVar("_Parsed")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Readers = Mapping[str, Callable[[yaml.Event], Any]]


def parse_policy(text: str | bytes, source: str = "<document>") -> Policy:
    """The policy in a document; raises ``InvalidInput`` with `source` and line."""
    if len(text) > MAX_BYTES:
        raise InvalidInput(
            f"the document is {len(text):,} bytes long",
            f"at most {MAX_BYTES:,} are read",
            source=source,
            line=1,
        )
    if isinstance(text, bytes):
        text = _decode(text, source)
    try:
        with collection_paused():
            return _folded_policy(text, source) or _Reading(text, source).policy()
    except InvalidInput as error:
        wrong = error.with_traceback(None)
    except yaml.MarkedYAMLError as error:
        wrong = InvalidInput(
            f"this is not YAML: {error.problem}",
            "look at the indentation, the quotes and the colons near this line",
            source=source,
            line=error.problem_mark.line + 1 if error.problem_mark else 1,
        )
    except (yaml.YAMLError, UnicodeError):
        wrong = InvalidInput(
            "this is not YAML: it holds a character that no text has",
            "save it as plain UTF-8 text",
            source=source,
            line=_line_of_control_character(text),
        )
    # An error may be kept as long as its file exists; it must not keep the text in memory.
    text, wrong.__context__ = "", None
    raise wrong from None


def _folded_policy(text: str, source: str) -> Policy | None:
    """The policy in a document with long lists of filters; None if it has none, or an error.

    A document with an error must be read again as it is, so that the error is about its text.
    """
    folded, runs = fold(text)
    if not runs:
        return None
    reading = _Reading(folded, source, runs)
    try:
        policy = reading.policy()
    except (InvalidInput, yaml.YAMLError, UnicodeError):
        return None
    return None if reading.runs else policy


class _Reading:
    """One document. Methods are given the first event of what they read, and consume the others.

    ``runs`` has the filters that single items stand for, until these items are read.
    """

    def __init__(self, text: str, source: str, runs: dict[str, list[str]] | None = None) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._source = source
        self.runs = runs or {}

    def policy(self) -> Policy:
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise InvalidInput(
                "the document is empty", "begin with: policy: NAME", source=self._source, line=1
            )
        first = self._next()
        readers: _Readers = {
            "policy": self._text,
            "description": self._text,
            "rules": self._rules,
            "expect": self._expect,
        }
        top = self._mapping(first, readers)
        self._next()
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._wrong(following, "there is more than one document", "write plain YAML")
        if "policy" not in top:
            raise self._wrong(first, "the document names no policy", "begin with: policy: NAME")
        try:
            return Policy(
                top["policy"],
                top.get("rules", ()),
                top.get("description", ""),
                top.get("expect", ()),
            )
        except InvalidInput as error:
            raise self._wrong(first, error.message, error.hint) from error

    def _rules(self, event: yaml.Event) -> tuple[Rule, ...]:
        rules: dict[str, Rule] = {}
        for item in self._items(event):
            rule = self._rule(item)
            if rule.name in rules:
                raise self._wrong(
                    item,
                    f"there is a rule {quote(rule.name)} above already",
                    "give each rule a name of its own, or put the filters into one rule",
                )
            rules[rule.name] = rule
        return tuple(rules.values())

    def _rule(self, event: yaml.Event) -> Rule:
        readers: _Readers = {
            "rule": self._text,
            "action": self._action,
            "interface": self._interface,
            "when": self._when,
            "filters": self._filters,
        }
        values = self._mapping(event, readers)
        for needed in ("rule", "action", "filters"):
            if needed not in values:
                raise self._wrong(event, f"the rule has no {needed!r}", f"add a line {needed}: …")
        try:
            return Rule(
                values["rule"],
                values["filters"],
                values["action"],
                Conditions(values.get("interface"), values.get("when", False)),
            )
        except InvalidInput as error:
            raise self._wrong(event, error.message, error.hint) from error

    def _action(self, event: yaml.Event) -> Action:
        text = self._text(event)
        try:
            return Action(text.lower())
        except ValueError:
            names = " or ".join(member.value for member in Action)
            problem = f"{quote(text)} is not {names}"
            raise self._wrong(event, problem, f"write {names}") from None

    def _interface(self, event: yaml.Event) -> InterfaceType | LinkName:
        return self._parsed(event, parse_interface, "interface")

    def _when(self, event: yaml.Event) -> bool:
        return self._parsed(event, parse_when, "condition")

    def _filters(self, event: yaml.Event) -> tuple[Filter, ...]:
        filters: list[Filter] = []
        for item in self._items(event):
            run = self.runs.pop(self._text(item), None) if self.runs else None
            filters += map(parse_short, run) if run else [self._filter(item)]
        return tuple(filters)

    def _filter(self, event: yaml.Event) -> Filter:
        return self._parsed(event, parse_short, "filter")

    def _expect(self, event: yaml.Event) -> tuple[Expectation, ...]:
        item = event

        def each() -> Iterator[Expectation]:
            nonlocal item
            for item in self._items(event):
                yield self._expectation(item)

        try:
            return each_once(each())
        except InvalidInput as error:
            if error.line:
                raise
            raise self._wrong(item, error.message, error.hint) from error

    def _expectation(self, event: yaml.Event) -> Expectation:
        """A line, ``VERDICT PACKET``, or both by themselves, with a reason."""
        if not isinstance(event, yaml.MappingStartEvent):
            return self._parsed(event, parse_expectation, "expectation")
        readers: _Readers = {"packet": self._text, "verdict": self._action, "reason": self._text}
        values = self._mapping(event, readers)
        for needed in ("packet", "verdict"):
            if needed not in values:
                hint = f"add a line {needed}: …"
                raise self._wrong(event, f"the expectation has no {needed!r}", hint)
        try:
            expected = parse_expectation(f"{values['verdict'].value} {values['packet']}")
            return replace(expected, reason=values.get("reason", ""))
        except InvalidInput as error:
            raise self._wrong(event, error.message, error.hint) from error

    def _parsed(self, event: yaml.Event, parse: Callable[[str], _Parsed], noun: str) -> _Parsed:
        """What `parse` makes of a text, which an error quotes as the `noun` that it is."""
        text = self._text(event)
        try:
            return parse(text)
        except InvalidInput as error:
            quoted = quote(text)
            named = quoted in error.message
            message = error.message if named else f"{error.message}: {noun} {quoted}"
            raise self._wrong(event, message, error.hint) from error

    # -- YAML ------------------------------------------------------------------------------------

    def _next(self) -> yaml.Event:
        """The next event; refuses tags, anchors and aliases."""
        event = next(self._events)
        problem = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "anchors and aliases are not allowed"
        elif tag := getattr(event, "tag", None):
            problem = f"tags such as {quote(tag)} are not allowed"
        if problem:
            raise self._wrong(event, problem, "write plain YAML")
        return event

    def _mapping(self, event: yaml.Event, readers: _Readers) -> dict[str, Any]:
        if not isinstance(event, yaml.MappingStartEvent):
            keys = f"keys are {', '.join(readers)}"
            raise self._wrong(event, "here must be keys and values", keys)
        values: dict[str, Any] = {}
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            name = self._text(key)
            if name in values:
                raise self._wrong(key, f"the key {quote(name)} stands twice", "keep one of them")
            if name not in readers:
                close = get_close_matches(name, readers, 1)
                hint = (
                    f"did you mean {close[0]}?" if close else f"the keys are {', '.join(readers)}"
                )
                raise self._wrong(key, f"the key {quote(name)} is not known", hint)
            values[name] = readers[name](self._next())
        return values

    def _items(self, event: yaml.Event) -> Iterator[yaml.Event]:
        """The first event of each item; the caller must read the item before it takes the next."""
        if not isinstance(event, yaml.SequenceStartEvent):
            hint = "begin each item with a dash, or write []"
            raise self._wrong(event, "here must be a list", hint)
        while not isinstance(item := self._next(), yaml.SequenceEndEvent):
            yield item

    def _text(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._wrong(event, "here must be text", "quote it if it holds : or #")
        text: str = event.value
        return text

    def _wrong(self, event: yaml.Event, message: str, hint: str) -> InvalidInput:
        line = event.start_mark.line + 1 if event.start_mark else 0
        return InvalidInput(message, hint, source=self._source, line=line)


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(
            "the document is not UTF-8 text", "save it as UTF-8", source=source, line=line
        ) from None


def _line_of_control_character(text: str) -> int:
    lines = text.split("\n")
    bad = (
        number for number, line in enumerate(lines, 1) if not line.translate(_WHITE).isprintable()
    )
    return next(bad, 1)
