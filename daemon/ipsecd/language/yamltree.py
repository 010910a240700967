"""Owns reading safe YAML into a tree of strings with their lines; must not know any schema.

Only the block and flow structure of YAML is safe. Tags, anchors and aliases (an alias can make a
page of text a gigabyte), a second document and repeated keys are refused. Every scalar is a string,
so that ``no`` is a word and not false. Size and depth are limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote, quote_path

MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as a string; lines count from 1."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys, each with its line, and values."""

    members: dict[Scalar, Node]
    line: int


Node = Scalar | Sequence | Mapping


def load_tree(content: bytes, source: str, *, max_bytes: int) -> Node | None:
    """The tree of the document in `content`, or None if it is empty.

    Raises ``InvalidInput`` with `source` and the line.
    """
    if len(content) > max_bytes:
        raise InvalidInput(f"{quote_path(source)} is larger than {max_bytes} bytes", source=source)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput("the text is not UTF-8", source=source, line=line) from error
    try:
        return _Composer(text, source).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InvalidInput(
            f"this is not YAML: {error.problem}",
            "look at the indentation, the quotes and the colons near this line",
            source=source,
            line=line,
        ) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise InvalidInput(f"this is not YAML: {error.reason}", source=source, line=line) from error


class _Composer:
    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._source = source

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._wrong(event, "a second document begins here", "keep only one")
                root = self._node(next(self._events), 1)
        if isinstance(root, Scalar) and not root.text:
            return None
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._wrong(event, f"the text is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise self._wrong(event, f"alias *{event.anchor} is not allowed", "write it out")
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise self._wrong(event, f"anchor &{event.anchor} is not allowed", "leave it out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._wrong(event, f"tag {quote(tag)} is not allowed", "leave it out")
        line = _line(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(tuple(self._items(depth)), line)
        if isinstance(event, yaml.MappingStartEvent):
            return Mapping(self._members(depth), line)
        assert isinstance(event, yaml.ScalarEvent)
        return Scalar(event.value, line)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _members(self, depth: int) -> dict[Scalar, Node]:
        members: dict[Scalar, Node] = {}
        names: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise self._wrong(event, "a key is not a plain word")
            if key.text in names:
                first = names[key.text]
                raise self._wrong(
                    event,
                    f"key {quote(key.text)} stands twice, first in line {first}",
                    "keep one of the two",
                )
            names[key.text] = key.line
            members[key] = self._node(next(self._events), depth + 1)
        return members

    def _wrong(self, event: yaml.Event, message: str, hint: str = "") -> InvalidInput:
        return InvalidInput(message, hint, source=self._source, line=_line(event))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
