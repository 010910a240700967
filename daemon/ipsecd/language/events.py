"""Owns reading keys, items and texts from the events of YAML; must not know what they say.

Tags, aliases and repeated keys are refused, and every scalar is text: ``policy: no`` is a policy
called "no".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

import yaml

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

Readers = Mapping[str, Callable[[yaml.Event], Any]]
"""What reads the value of each key that there can be."""
Tell = Callable[[InvalidInput], None]
_Read = TypeVar("_Read")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def raise_error(error: InvalidInput) -> NoReturn:
    """Raise `error`: how a document is read that is not read on after an error."""
    raise error


class EventReader:
    """One document. Methods are given the first event of what they read, and consume the others.

    `tell` is given each error, and raises it unless the document is to be read on. What is read of
    a document with errors has None, or nothing, in the place of what is wrong.
    """

    def __init__(self, text: str, source: str, tell: Tell) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._source = source
        self._tell = tell
        self._depth = 0

    def _take(self) -> yaml.Event:
        event = next(self._events)
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        return event

    def _skip(self, depth: int) -> None:
        """Skip what is left of the values that were begun in the collection at `depth`."""
        while self._depth > depth:
            self._take()

    def _plain(self, event: yaml.Event) -> yaml.Event:
        """The event, which must be no alias and have neither anchor nor tag."""
        problem = ""
        if getattr(event, "anchor", None):
            problem = "anchors and aliases are not allowed"
        elif tag := getattr(event, "tag", None):
            problem = f"tags such as {quote(tag)} are not allowed"
        if problem:
            wrong = self._wrong(event, problem, "write plain YAML")
            if isinstance(event, yaml.AliasEvent):
                raise wrong
            self._tell(wrong)
        return event

    def _mapping(self, event: yaml.Event, readers: Readers) -> dict[str, Any]:
        """The values by key; that of a wrong key is read as that of the key it is most like."""
        if not isinstance(event, yaml.MappingStartEvent):
            keys = f"keys are {', '.join(readers)}"
            raise self._wrong(event, "here must be keys and values", keys)
        values: dict[str, Any] = {}
        meant: dict[str, Any] = {}
        depth = self._depth
        while not isinstance(key := self._take(), yaml.MappingEndEvent):
            name, into = "", values
            try:
                name = self._text(self._plain(key))
                self._check_key(key, name, values, readers)
            except InvalidInput as error:
                self._tell(error)
                self._skip(depth)
                name, into = _close(name, readers), meant
            first = self._take()
            if not name:
                self._skip(depth)
                continue
            try:
                into[name] = readers[name](self._plain(first))
            except InvalidInput as error:
                self._tell(error)
                self._skip(depth)
                into[name] = None
        return {**meant, **values}

    def _check_key(
        self, key: yaml.Event, name: str, values: Mapping[str, Any], readers: Readers
    ) -> None:
        if name in values:
            raise self._wrong(key, f"the key {quote(name)} stands twice", "keep one of them")
        if name not in readers:
            close = _close(name, readers)
            hint = f"did you mean {close}?" if close else f"the keys are {', '.join(readers)}"
            raise self._wrong(key, f"the key {quote(name)} is not known", hint)

    def _each(self, event: yaml.Event, read: Callable[[yaml.Event], _Read]) -> list[_Read | None]:
        """What `read` makes of each item of a list; None for those that are wrong."""
        if not isinstance(event, yaml.SequenceStartEvent):
            hint = "begin each item with a dash, or write []"
            raise self._wrong(event, "here must be a list", hint)
        items: list[_Read | None] = []
        depth = self._depth
        while not isinstance(item := self._take(), yaml.SequenceEndEvent):
            try:
                items.append(read(self._plain(item)))
            except InvalidInput as error:
                self._tell(error)
                self._skip(depth)
                items.append(None)
        return items

    def _text(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._wrong(event, "here must be text", "quote it if it holds : or #")
        text: str = event.value
        return text

    def _wrong(self, event: yaml.Event, message: str, hint: str) -> InvalidInput:
        line = event.start_mark.line + 1 if event.start_mark else 0
        return InvalidInput(message, hint, source=self._source, line=line)


def _close(name: str, readers: Readers) -> str:
    """The key that a wrong one is most like; "" if it is like none."""
    return next(iter(get_close_matches(name, readers, 1)), "")
