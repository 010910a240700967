"""Owns reading policy documents, from YAML to a policy; must not know how they are written.

A document is read event by event, by its schema. So however long it is, only the policy read so far
is in memory, and an error is met where it is, with its line. Either the first is raised, or all are
collected: what is wrong is skipped then, and what is beside it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.garbage import collection_paused
from ipsecd.language.collected import CollectedErrors
from ipsecd.language.conditions import parse_interface, parse_when
from ipsecd.language.events import EventReader, Readers, Tell, raise_error
from ipsecd.language.expectations import parse_expectation
from ipsecd.language.filters import parse_short
from ipsecd.language.runs import fold
from ipsecd.model.expectations import MAX_EXPECTATIONS, Expectation, admit
from ipsecd.model.kinds import VERDICTS
from ipsecd.model.values import (
    Action,
    Conditions,
    Filter,
    InterfaceType,
    LinkName,
    Policy,
    Rule,
    check_name,
)
from ipsecd.quoting import quote

MAX_BYTES = 16 << 20
"""How long a policy document may be, wherever it comes from."""

_WHITE = str.maketrans("", "", "\t\r")
_STAND_IN = "unnamed"
"""In the place of a name that is missing or wrong, so that what it names is judged all the same."""
_Parsed = TypeVar("_Parsed")
_ERRORS = (InvalidInput, yaml.YAMLError, UnicodeError)


def parse_policy(text: str | bytes, source: str = "<document>") -> Policy:
    """The policy in a document; raises ``InvalidInput`` with `source` and line."""
    text = _as_text(text, source)
    try:
        with collection_paused():
            return _folded_policy(text, source) or _Reading(text, source).policy()
    except _ERRORS as error:
        wrong = _as_invalid_input(error, text, source)
    # An error may be kept as long as its file exists; it must not keep the text in memory.
    text, wrong.__context__ = "", None
    raise wrong from None


def errors_of_policy(text: str | bytes, source: str = "<document>") -> CollectedErrors:
    """All errors of a document: the first is what ``parse_policy`` raises, and none if it does not.

    After text that is not YAML nothing is read. Of a filter, of a packet and of a name there is one
    error at the most, and an error that is there only because of another is not told.
    """
    errors = CollectedErrors()
    content = ""
    try:
        content = _as_text(text, source)
        with collection_paused():
            _Reading(content, source, tell=errors.add).policy()
    except _ERRORS as error:
        errors.add(_as_invalid_input(error, content, source))
    return errors


def _as_text(content: str | bytes, source: str) -> str:
    if len(content) > MAX_BYTES:
        raise InvalidInput(
            f"the document is {len(content):,} bytes long",
            f"at most {MAX_BYTES:,} are read",
            source=source,
            line=1,
        )
    return _decode(content, source) if isinstance(content, bytes) else content


def _as_invalid_input(error: Exception, text: str, source: str) -> InvalidInput:
    """What is said of an error that was met in `text`, without what was read then."""
    if isinstance(error, InvalidInput):
        return error.with_traceback(None)
    if isinstance(error, yaml.MarkedYAMLError):
        return InvalidInput(
            f"this is not YAML: {error.problem}",
            "look at the indentation, the quotes and the colons near this line",
            source=source,
            line=error.problem_mark.line + 1 if error.problem_mark else 1,
        )
    return InvalidInput(
        "this is not YAML: it holds a character that no text has",
        "save it as plain UTF-8 text",
        source=source,
        line=_line_of_control_character(text),
    )


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
    except _ERRORS:
        return None
    return None if reading.runs else policy


class _Reading(EventReader):
    """One document.

    ``runs`` has the filters that single items stand for, until these items are read.
    """

    def __init__(
        self,
        text: str,
        source: str,
        runs: dict[str, list[str]] | None = None,
        tell: Tell = raise_error,
    ) -> None:
        super().__init__(text, source, tell)
        self.runs = runs or {}

    def policy(self) -> Policy:
        self._take()
        if isinstance(self._take(), yaml.StreamEndEvent):
            raise InvalidInput(
                "the document is empty", "begin with: policy: NAME", source=self._source, line=1
            )
        first = self._plain(self._take())
        readers: Readers = {
            "policy": self._text,
            "description": self._text,
            "audit": self._flag,
            "rules": self._rules,
            "expect": self._expect,
        }
        top = self._mapping(first, readers)
        self._take()
        following = self._take()
        if not isinstance(following, yaml.StreamEndEvent):
            self._tell(
                self._wrong(following, "there is more than one document", "write plain YAML")
            )
        if "policy" not in top:
            hint = "begin with: policy: NAME"
            self._tell(self._wrong(first, "the document names no policy", hint))
        name = self._name(first, "policy", top.get("policy"))
        rules, resting = top.get("rules") or ((), ())
        description, expect = top.get("description") or "", top.get("expect") or ()
        try:
            return Policy(name, rules, description, expect, bool(top.get("audit")), resting)
        except InvalidInput as error:
            raise self._wrong(first, error.message, error.hint) from error

    def _rules(self, event: yaml.Event) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        """The rules that can be in force, and those that are switched off."""
        names: set[str] = set()
        resting: set[str] = set()
        items = self._each(event, lambda item: self._rule(item, names, resting))
        rules = tuple(filter(None, items))
        if not resting:
            return rules, ()
        return (
            tuple(rule for rule in rules if rule.name not in resting),
            tuple(rule for rule in rules if rule.name in resting),
        )

    def _rule(self, event: yaml.Event, names: set[str], resting: set[str]) -> Rule | None:
        """A rule, whose name it adds to `names`, those of the rules above.

        If it is switched off, it adds its name to `resting` as well.
        """
        readers: Readers = {
            "rule": self._text,
            "action": self._action,
            "interface": self._interface,
            "when": self._when,
            "enabled": self._flag,
            "description": self._text,
            "filter-action": self._text,
            "filter-list": self._text,
            "filters": self._filters,
        }
        values = self._mapping(event, readers)
        has_list = "filter-list" in values
        self._demand(event, "rule", values, "rule", "action", *["filters"] * (not has_list))
        written = values.get("rule")
        filters = values.get("filters", () if has_list else None)
        name = self._name(event, "rule", written)
        action = values.get("action") or Action.BLOCK
        conditions = Conditions(values.get("interface"), values.get("when") or False)
        texts = [values.get(key) or "" for key in ("filter-list", "filter-action", "description")]
        rule = None
        if filters is not None:
            rule = self._made(event, lambda: Rule(name, filters, action, conditions, *texts))
        if written is None:
            return None
        if written in names:
            what = f"there is a rule {quote(written)} above already"
            hint = "give each rule a name of its own, or put the filters into one rule"
            self._tell(self._wrong(event, what, hint))
            return None
        names.add(written)
        if rule and values.get("enabled") is False:
            resting.add(rule.name)
        return rule

    def _flag(self, event: yaml.Event) -> bool:
        text = self._text(event)
        if text not in ("true", "false"):
            problem = f"{quote(text)} is not true or false"
            raise self._wrong(event, problem, "write true or false, or leave the line out")
        return text == "true"

    def _action(self, event: yaml.Event) -> Action:
        return self._one_of(event, tuple(Action))

    def _verdict(self, event: yaml.Event) -> Action:
        return self._one_of(event, VERDICTS)

    def _one_of(self, event: yaml.Event, actions: tuple[Action, ...]) -> Action:
        text = self._text(event)
        action = next((each for each in actions if each.value == text.lower()), None)
        if action is None:
            *names, last = (each.value for each in actions)
            which = f"{', '.join(names)} or {last}"
            problem = f"{quote(text)} is not {which}"
            raise self._wrong(event, problem, f"write {which}")
        return action

    def _interface(self, event: yaml.Event) -> InterfaceType | LinkName:
        return self._parsed(event, parse_interface, "interface")

    def _when(self, event: yaml.Event) -> bool:
        return self._parsed(event, parse_when, "condition")

    def _filters(self, event: yaml.Event) -> tuple[Filter, ...] | None:
        """The filters of a rule; None if there are some, and all are wrong."""
        items = self._each(event, self._filters_of)
        filters = tuple(chain.from_iterable(filter(None, items)))
        return None if items and not filters else filters

    def _filters_of(self, event: yaml.Event) -> list[Filter]:
        """The filter that an item is, or those of the run that it stands for."""
        run = self.runs.pop(self._text(event), None) if self.runs else None
        if run:
            return list(map(parse_short, run))
        return [self._parsed(event, parse_short, "filter")]

    def _expect(self, event: yaml.Event) -> tuple[Expectation, ...]:
        by_packet: dict[str, Expectation] = {}

        def read(item: yaml.Event) -> None:
            if expected := self._expectation(item):
                self._made(item, lambda: admit(expected, by_packet))

        self._each(event, read)
        return tuple(by_packet.values())[:MAX_EXPECTATIONS]

    def _expectation(self, event: yaml.Event) -> Expectation | None:
        """A line, ``VERDICT PACKET``, or both by themselves, with a reason."""
        if not isinstance(event, yaml.MappingStartEvent):
            return self._parsed(event, parse_expectation, "expectation")
        readers: Readers = {"packet": self._text, "verdict": self._verdict, "reason": self._text}
        values = self._mapping(event, readers)
        self._demand(event, "expectation", values, "packet", "verdict")
        packet, verdict = values.get("packet"), values.get("verdict")
        if packet is None:
            return None
        line = f"{(verdict or Action.BLOCK).value} {packet}"
        reason = values.get("reason") or ""
        expected = self._made(event, lambda: replace(parse_expectation(line), reason=reason))
        return expected if verdict else None

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

    def _made(self, event: yaml.Event, make: Callable[[], _Parsed]) -> _Parsed | None:
        """What `make` returns of what begins with `event`; None if that is wrong."""
        try:
            return make()
        except InvalidInput as error:
            self._tell(self._wrong(event, error.message, error.hint))
            return None

    def _name(self, event: yaml.Event, kind: str, name: str | None) -> str:
        """`name` if it can name a `kind`, and otherwise what can."""
        if name is None:
            return _STAND_IN
        try:
            check_name(kind, name)
        except InvalidInput as error:
            self._tell(self._wrong(event, error.message, error.hint))
            return _STAND_IN
        return name

    def _demand(
        self, event: yaml.Event, noun: str, values: Mapping[str, Any], *needed: str
    ) -> None:
        """Tell which of the keys that a `noun` needs do not stand in it."""
        for key in needed:
            if key not in values:
                self._tell(self._wrong(event, f"the {noun} has no {key!r}", f"add a line {key}: …"))


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
