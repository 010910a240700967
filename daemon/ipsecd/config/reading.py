"""Owns how values are taken out of a tree of settings; must not know which settings there are.

What is wrong is told with the file and the line that it stands in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TypeVar

from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.language.yamltree import Mapping, Node, Scalar, Sequence
from ipsecd.quoting import quote

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class SettingsReader:
    """Takes values out of the tree, and says the file and line when one is wrong."""

    def __init__(self, source: str, section: str = "") -> None:
        """`section` names the mapping that values are taken out of; "" is the outermost."""
        self._source = source
        self._section = section

    def within(self, section: str) -> SettingsReader:
        """A reader of the section of that name."""
        return SettingsReader(self._source, section)

    def members(self, node: Node, what: str, known: tuple[str, ...]) -> dict[str, Node]:
        """The members of a mapping, all of which must have `known` names."""
        if not isinstance(node, Mapping):
            raise self.wrong(node, f"{what} is not a mapping", f"its keys are {', '.join(known)}")
        for key in node.members:
            if key.text not in known:
                near = difflib.get_close_matches(key.text, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
                raise self.wrong(key, f"{what} has no key {quote(key.text)}", hint)
        return {key.text: value for key, value in node.members.items()}

    def scalar(self, keys: dict[str, Node], name: str, parse: Callable[[str], T], default: T) -> T:
        """The value of `name`, or `default` where it is absent."""
        if name not in keys:
            return default
        node = keys[name]
        if not isinstance(node, Scalar):
            raise self.wrong(node, f"{name} is not a single value")
        return self._parsed(node, name, parse)

    def texts(
        self,
        keys: dict[str, Node],
        name: str,
        parse: Callable[[str], T],
        default: tuple[T, ...],
        what: str = "names",
    ) -> tuple[T, ...]:
        """What stands in the list under `name`, each once; the list may be empty."""
        if name not in keys:
            return default
        node = keys[name]
        if not isinstance(node, Sequence):
            raise self.wrong(node, f"{name} is not a list of {what}", "write [] for none")
        values = []
        for item in node.items:
            if not isinstance(item, Scalar):
                raise self.wrong(item, f"{name} holds something that is not a name")
            values.append(self._parsed(item, name, parse))
        return tuple(dict.fromkeys(values))

    def pairs(
        self, keys: dict[str, Node], name: str, check: Callable[[str, str], None]
    ) -> tuple[tuple[str, str], ...]:
        """The names and values in the mapping under `name`, sorted; empty where it is absent."""
        if name not in keys:
            return ()
        node = keys[name]
        if not isinstance(node, Mapping):
            raise self.wrong(
                node, f"{name} is not a mapping of names to values", "write {} for none"
            )
        values = []
        for key, value in node.members.items():
            if not isinstance(value, Scalar):
                raise self.wrong(value, f"{name}: {quote(key.text)} is not a single value")
            self._parsed(key, name, partial(_checked, check, value.text))
            values.append((key.text, value.text))
        return tuple(sorted(values))

    def _parsed(self, node: Scalar, name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(node.text)
        except InvalidInput as error:
            key = f"{self._section}.{name}" if self._section else name
            raise self.wrong(node, f"{key}: {error.message}", error.hint) from error
        except Refused as error:
            where = f"{self._source}:{node.line}: "
            raise Refused(where + error.message, error.hint) from error

    def where(self, node: Node) -> str:
        """The file and the line that `node` stands in."""
        return f"{self._source}:{node.line}"

    def wrong(self, node: Node, message: str, hint: str = "") -> IpsecdError:
        """What is wrong at `node`, with the line that it stands in."""
        return InvalidInput(message, hint, source=self._source, line=node.line)


def _checked(check: Callable[[str, str], None], value: str, name: str) -> None:
    check(name, value)


def integer(least: int, most: int) -> Callable[[str], int]:
    """What reads a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        # isdecimal() takes digits of every script, and int() has its own limit on length.
        if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        raise InvalidInput(f"{quote(text)} is not a whole number from {least} to {most}")

    return parse


def one_of(kind: type[E]) -> Callable[[str], E]:
    """What reads the value of one member of `kind`."""

    def parse(text: str) -> E:
        for member in kind:
            if member.value == text:
                return member
        names = " or ".join(member.value for member in kind)
        raise InvalidInput(f"{quote(text)} is not {names}")

    return parse


def absolute_path(text: str) -> Path:
    """A path that begins at the root."""
    if not text.startswith("/") or "\0" in text:
        raise InvalidInput(f"{quote(text)} is not an absolute path")
    return Path(text)
